// What the clients of a run do.
#include <algorithm>
#include <utility>

#include "tests/sim/world.h"

namespace mmc::sim {

using std::chrono::milliseconds;

std::string World::Key(Dice& dice) { return "k" + std::to_string(dice.Below(plan_.keys)); }

// Until the client is killed or the run is at its end. The client is never closed: its process ends as it is.
void World::Work(ClientProcess& process, uint64_t life, std::shared_ptr<Client> shared) {
  Dice dice(dice_.Next());
  const ProcessPtr mine = process.process;
  while (process.life == life && !ending_) {
    OneCall(*shared, process, dice);
    scheduler_.Sleep(dice.Skewed(kMilli, 300 * kMilli));
  }
}

void World::OneCall(Client& client, ClientProcess& process, Dice& dice) {
  ++calls_;
  const uint64_t roll = dice.Below(100);
  if (roll < 42) return Put(client, dice);
  if (roll < 76) return Get(client, dice, process.cache);
  if (roll < 90) return Remove(client, dice);
  LookIn(client, dice);
}

void World::Put(Client& client, Dice& dice) {
  const size_t n = static_cast<size_t>(dice.Skewed(1, 4));
  std::vector<std::string> keys, values;
  std::vector<uint64_t> ids;
  for (size_t i = 0; i < n; ++i) {
    std::string key = Key(dice);
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
    const uint64_t id = history_.NextId();
    std::string value(static_cast<size_t>(dice.Skewed(8, static_cast<int64_t>(plan_.max_value))), '\0');
    History::Fill(id, &value);
    history_.BeginPut(key, value, id);
    keys.push_back(std::move(key));
    values.push_back(std::move(value));
    ids.push_back(id);
  }
  std::vector<ConstBuffer> buffers(keys.size());
  std::vector<PutItem> items(keys.size());
  for (size_t i = 0; i < keys.size(); ++i) {
    buffers[i] = {values[i].data(), values[i].size()};
    items[i] = {keys[i], {&buffers[i], 1}};
  }
  PutOptions options;
  options.replicas = static_cast<uint32_t>(dice.Skewed(1, 3));
  options.timeout = milliseconds(dice.Skewed(200, 6000));
  const std::vector<Status> statuses = client.Put(items, options);
  for (size_t i = 0; i < keys.size(); ++i) {
    Trace("put " + std::to_string(ids[i]) + " of " + keys[i] + ": " + statuses[i].ToString());
    history_.EndPut(ids[i], statuses[i]);
  }
}

void World::Get(Client& client, Dice& dice, bool cached) {
  std::vector<std::string> keys;
  for (int64_t n = dice.Skewed(1, 4); n > 0; --n) keys.push_back(Key(dice));
  const std::vector<std::string_view> views(keys.begin(), keys.end());
  const Nanos asked = scheduler_.now();
  const auto values = client.Get(views, {milliseconds(dice.Skewed(200, 6000))});
  for (size_t i = 0; i < keys.size(); ++i) {
    if (values[i].ok()) {
      Trace("get " + keys[i] + ": put " + std::to_string(history_.WhoseValue(*values[i])));
      history_.Hit(keys[i], *values[i], asked, cached);
    } else {
      Trace("get " + keys[i] + ": " + values[i].status().ToString());
      history_.Saw("get", keys[i], values[i].status());
    }
  }
}

void World::Remove(Client& client, Dice& dice) {
  const std::string key = Key(dice);
  if (dice.Chance(0.06)) {
    const std::string prefix = dice.Chance(0.3) ? std::string() : "k1";
    const uint64_t id = history_.BeginRemove(prefix, true);
    const auto removed = prefix.empty() ? client.RemoveAll() : client.RemoveByPrefix(prefix);
    Trace("remove prefix '" + prefix + "': " + removed.status().ToString());
    return history_.EndRemove(id, removed.status());
  }
  const uint64_t id = history_.BeginRemove(key, false);
  const std::string_view view = key;
  const auto removed = client.Remove({&view, 1});
  const Status status = removed.ok() ? (*removed)[0] : removed.status();
  Trace("remove " + key + ": " + status.ToString());
  history_.EndRemove(id, status);
}

// Questions, and views that are held for a while.
void World::LookIn(Client& client, Dice& dice) {
  const std::string key = Key(dice);
  const std::string_view view = key;
  switch (dice.Below(6)) {
    case 0: {
      const auto found = client.Exists({&view, 1});
      return history_.Saw("exists", key, found.status());
    }
    case 1: {
      const auto found = client.Prefix({&view, 1});
      return history_.Saw("prefix", key, found.status());
    }
    case 2: {
      const auto found = client.Stat({&view, 1});
      return history_.Saw("stat", key, found.status());
    }
    case 3: {
      const auto page = client.List("k", "", 100);
      return history_.Saw("list", key, page.status());
    }
    default: {
      const Nanos asked = scheduler_.now();
      auto held = client.MakeView(key);
      if (!held.ok()) return history_.Saw("view", key, held.status());
      std::string bytes;
      for (const ConstBuffer& piece : held->pieces()) bytes.append(static_cast<const char*>(piece.data), piece.size);
      // Whether it stays put while it is pinned is seen by Blocks; sessions may end meanwhile.
      if (history_.WhoseValue(bytes) != 0) history_.Hit(key, bytes, asked);
      scheduler_.Sleep(dice.Skewed(kMilli, 3 * kSecond));
      return;
    }
  }
}

}  // namespace mmc::sim
