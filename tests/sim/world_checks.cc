// What must hold after every step, and when everything has come to rest.
#include <algorithm>
#include <map>
#include <set>

#include "meta_service/state/meta_state.h"
#include "tests/sim/world.h"

namespace mmc::sim {

using std::chrono::milliseconds;

void World::CheckBooks() {
  if (meta_ == nullptr) return;
  const std::string wrong = meta_->state().CheckInvariants();
  if (!wrong.empty()) Violate("books", wrong);
}

// Whether what was there before has been dealt with: sessions, grants, pins, fences, records, copies.
bool World::Settled(std::string* why) {
  const meta::Figures f = meta_->state().figures();
  const auto is = [&](const char* what, uint64_t value) {
    if (value != 0 && why->empty()) *why = std::to_string(value) + " " + what;
  };
  is("recovering", f.recovering);
  is("grants", f.grants);
  is("pins", f.pins);
  is("fences waiting", f.fences_waiting);
  is("catalog records on their way", f.feed_records);
  is("bytes waiting to be free", f.waiting_bytes);
  uint64_t version = 0, serving = 0;
  for (const meta::NodeInfo& node : meta_->state().Directory(TimePoint(), &version)) {
    serving += node.health == meta::NodeHealth::kServing || node.health == meta::NodeHealth::kDraining;
  }
  if (why->empty() && serving != nodes_.size()) *why = std::to_string(serving) + " nodes serve";
  return why->empty();
}

// Those clients that live only keep their sessions.
bool World::Rest() {
  const Nanos deadline = scheduler_.now() + 60 * kSecond;
  std::string why;
  do {
    scheduler_.Sleep(500 * kMilli);
    why.clear();
  } while (!Settled(&why) && scheduler_.now() < deadline);
  if (!why.empty()) Violate("rest", "60 s after the last fault there are still " + why);
  CheckBooks();
  return result_.invariant.empty();
}

void World::CheckQuiet() {
  if (!Rest()) return;

  const ProcessPtr process = std::make_shared<Process>();
  process->name = "auditor";
  bool done = false;
  scheduler_.Spawn(process, [this, process, &done] {
    auto client = Connect(process, false, false, Integrity::kVerify, milliseconds(5000));
    if (!client.ok()) return Violate("rest", "no session after the last fault: " + client.status().ToString());
    for (const auto& node : nodes_) (void)(*client)->Drain(node->name, true);
    if (Rest()) CheckKeys(**client);
    if (result_.invariant.empty()) CheckEmpty(**client);
    done = true;
    scheduler_.WakeAll(&done);
  });
  while (!done) scheduler_.Wait(&done);
}

// Objects, space and catalogs say the same; every key can be read, removed, put and read again.
void World::CheckKeys(Client& client) {
  std::map<std::pair<std::string, uint64_t>, uint64_t> catalogs;  // key, generation -> replicas
  uint64_t units = 0;
  for (const auto& node : nodes_) {
    const auto image = local::CatalogReader::Open(blocks_.catalog_path(node->name));
    if (!image.ok()) return Violate("catalogs", node->name + ": " + image.status().ToString());
    for (const auto& record : image->records) {
      ++catalogs[{record.key, record.generation}];
      for (const auto& extent : record.extents) units += meta::UnitsOf(extent.length);
    }
  }
  const meta::Figures figures = meta_->state().figures();
  uint64_t replicas = 0;
  for (const auto& [name, count] : catalogs) replicas += count;
  if (replicas != meta_->state().CommittedReplicas() || catalogs.size() != figures.objects) {
    return Violate("catalogs", std::to_string(replicas) + " replicas of " + std::to_string(catalogs.size()) +
                                   " objects in the catalogs; the meta service has " +
                                   std::to_string(meta_->state().CommittedReplicas()) + " of " +
                                   std::to_string(figures.objects));
  }
  if (units * meta::kUnitBytes != figures.used_bytes) {
    return Violate("space", std::to_string(figures.used_bytes) + " bytes are in use, the catalogs have " +
                                std::to_string(units * meta::kUnitBytes));
  }
  for (uint32_t i = 0; i < plan_.keys && result_.invariant.empty(); ++i) {
    const std::string key = "k" + std::to_string(i);
    const std::string_view view = key;
    for (int round = 0; round < 2; ++round) {
      const Nanos asked = scheduler_.now();
      const auto value = client.Get({&view, 1})[0];
      const bool there = catalogs.lower_bound({key, 0}) != catalogs.end() &&
                         catalogs.lower_bound({key, 0})->first.first == key;
      if (value.ok()) history_.Hit(key, *value, asked);
      if (value.ok() != (round == 1 || there)) {
        const char* const where = round == 1 ? "just put" : there ? "in a catalog" : "in none";
        return Violate("keys", "a get of '" + key + "', " + where + ", answers " + value.status().ToString());
      }
      if (!value.ok() && value.status().code() != Code::kNotFound) {
        return Violate("keys", "a get of '" + key + "' answers " + value.status().ToString());
      }
      if (round == 1) break;
      const uint64_t removal = history_.BeginRemove(key, false);
      const auto removed = client.Remove({&view, 1});
      history_.EndRemove(removal, removed.ok() ? (*removed)[0] : removed.status());
      const uint64_t id = history_.NextId();
      std::string bytes(1000, '\0');
      History::Fill(id, &bytes);
      history_.BeginPut(key, bytes, id);
      const ConstBuffer buffer{bytes.data(), bytes.size()};
      const PutItem item{key, {&buffer, 1}};
      const Status put = client.Put({&item, 1}, {.replicas = 1})[0];
      history_.EndPut(id, put);
      if (!put.ok()) return Violate("keys", "a put of '" + key + "', just removed, answers " + put.ToString());
    }
  }
}

// Nothing stays behind when everything is removed.
void World::CheckEmpty(Client& client) {
  const uint64_t removal = history_.BeginRemove("", true);
  const auto removed = client.RemoveByPrefix("k");
  history_.EndRemove(removal, removed.status());
  if (!removed.ok()) return Violate("rest", "removing everything answers " + removed.status().ToString());
  const Nanos deadline = scheduler_.now() + 30 * kSecond;
  std::string why = "?";
  while (!why.empty() && scheduler_.now() < deadline) {
    scheduler_.Sleep(500 * kMilli);
    why.clear();
    Settled(&why);
    const meta::Figures figures = meta_->state().figures();
    if (why.empty() && figures.used_bytes != 0) why = std::to_string(figures.used_bytes) + " bytes in use";
    if (why.empty() && figures.objects != 0) why = std::to_string(figures.objects) + " objects";
  }
  if (!why.empty()) return Violate("space", "30 s after everything was removed there are still " + why);
  CheckBooks();
}

}  // namespace mmc::sim
