#include "meta_service/mover/scrubs.h"

#include <algorithm>
#include <utility>

#include "proto/key_list.h"

namespace mmc::meta {

namespace {
constexpr size_t kMaxRuns = 16;
}  // namespace

bool Scrubs::Over(const Run& run) {
  return std::all_of(run.parts.begin(), run.parts.end(), [](const auto& part) { return part.second.done; });
}

void Scrubs::EndGone(const std::vector<NodeInfo>& nodes, Run* run) {
  for (auto& [id, part] : run->parts) {
    const bool there = std::any_of(nodes.begin(), nodes.end(), [&, id = id, &of = part](const NodeInfo& node) {
      return node.id == id && node.incarnation == of.incarnation && node.health != NodeHealth::kDead;
    });
    part.done |= !there;
  }
}

Result<uint64_t> Scrubs::Start(const std::string& node, uint64_t bytes_per_second, const std::vector<NodeInfo>& nodes,
                               std::vector<uint32_t>* asked) {
  Run run{.bytes_per_second = bytes_per_second};
  for (const NodeInfo& info : nodes) {
    if (info.health == NodeHealth::kDead || (!node.empty() && info.name != node)) continue;
    run.parts[info.id].incarnation = info.incarnation;
    asked->push_back(info.id);
  }
  if (!node.empty() && run.parts.empty()) {
    return Status(Code::kNotFound, "no node '" + node + "' in the pool; mmc nodes lists those that are there");
  }
  MutexLock lock(mutex_);
  for (auto& [id, other] : runs_) EndGone(nodes, &other);
  if (runs_.size() >= kMaxRuns) {
    const auto over = std::find_if(runs_.begin(), runs_.end(), [](const auto& entry) { return Over(entry.second); });
    if (over == runs_.end()) {
      return Status(Code::kQueueFull, std::to_string(kMaxRuns) + " checks are not over yet, no more are started");
    }
    runs_.erase(over);
  }
  runs_.emplace(next_id_, std::move(run));
  return next_id_++;
}

bool Scrubs::Collect(uint32_t node, uint64_t incarnation,
                     google::protobuf::RepeatedPtrField<proto::ScrubCommand>* out) {
  MutexLock lock(mutex_);
  bool fresh = false;
  for (auto& [id, run] : runs_) {
    const auto part = run.parts.find(node);
    if (part == run.parts.end() || part->second.done || part->second.incarnation != incarnation) continue;
    proto::ScrubCommand* command = out->Add();
    command->set_id(id);
    command->set_bytes_per_second(run.bytes_per_second);
    fresh |= !std::exchange(part->second.sent, true);
  }
  return fresh;
}

Status Scrubs::Take(uint32_t node, uint64_t incarnation, const proto::ScrubResult& result, TimePoint now) {
  MMC_ASSIGN_OR_RETURN(const std::vector<std::string_view> bad, proto::DecodeKeys(result.bad_keys()));
  if (bad.size() != static_cast<size_t>(result.bad_generation_size())) {
    return Status(Code::kMalformed, "a scrub result names " + std::to_string(bad.size()) + " keys and " +
                                        std::to_string(result.bad_generation_size()) + " generations");
  }
  {
    MutexLock lock(mutex_);
    const auto run = runs_.find(result.id());
    if (run == runs_.end()) return Status::Ok();
    const auto found = run->second.parts.find(node);
    if (found == run->second.parts.end() || found->second.incarnation != incarnation || found->second.done) {
      return Status::Ok();
    }
    Part& part = found->second;
    part.objects = result.checked_objects();
    part.bytes = result.checked_bytes();
    part.skipped = result.skipped_objects();
    part.bad += bad.size();
    part.done = result.done();
  }
  for (size_t i = 0; i < bad.size(); ++i) {
    mover_.DropBad(node, bad[i], result.bad_generation(static_cast<int>(i)), now);
  }
  return Status::Ok();
}

Status Scrubs::Show(uint64_t id, const std::vector<NodeInfo>& nodes, proto::ScrubStatusReply* out) {
  MutexLock lock(mutex_);
  const auto found = runs_.find(id);
  if (found == runs_.end()) {
    return Status(Code::kNotFound, "check " + std::to_string(id) + " is not known: it is too old, or of another start");
  }
  EndGone(nodes, &found->second);
  uint64_t objects = 0, bytes = 0, skipped = 0, bad = 0;
  uint32_t done = 0;
  for (const auto& [node, part] : found->second.parts) {
    objects += part.objects;
    bytes += part.bytes;
    skipped += part.skipped;
    bad += part.bad;
    done += part.done;
  }
  out->set_nodes(static_cast<uint32_t>(found->second.parts.size()));
  out->set_nodes_done(done);
  out->set_checked_objects(objects);
  out->set_checked_bytes(bytes);
  out->set_skipped_objects(skipped);
  out->set_bad_replicas(bad);
  return Status::Ok();
}

}  // namespace mmc::meta
