#include "common/rpc/method_table.h"

#include <google/protobuf/message_lite.h>

#include "common/obs/log.h"

namespace mmc::rpc {
namespace {

// A code that is not in the table (a handler made it up) counts as the last one.
size_t PlaceOf(Code code) {
  const CodeTable table = AllCodes();
  size_t place = 0;
  for (const CodeInfo* info = table.begin; info + 1 != table.end && info->code != code; ++info) ++place;
  return place;
}

}  // namespace

void MethodTable::Add(MethodEntry entry) {
  CHECK(Find(entry.id) == nullptr) << "method number " << entry.id << " is taken: " << entry.name;
  auto row = std::make_unique<Row>();
  row->requests = &registry_.AddCounter("mmc_rpc_requests_total", "Calls that were answered, by method.",
                                        {{"method", entry.name}});
  row->latency = &registry_.AddHistogram(
      "mmc_rpc_latency_seconds", "From the arrival of a call to its answer, by method.", {{"method", entry.name}});
  entry.index = rows_.size();
  const auto request = entry.make_request();
  const auto reply = entry.make_reply();
  const google::protobuf::MessageLite& request_ref = *request;
  const google::protobuf::MessageLite& reply_ref = *reply;
  entry.request_type = &typeid(request_ref);
  entry.reply_type = &typeid(reply_ref);
  row->entry = std::move(entry);
  if (by_id_.size() <= row->entry.id) by_id_.resize(row->entry.id + size_t{1}, nullptr);
  by_id_[row->entry.id] = &row->entry;
  rows_.push_back(std::move(row));
}

void MethodTable::Record(const MethodEntry& method, Code code, Duration latency) {
  Row& row = *rows_[method.index];
  row.requests->Add();
  row.latency->Record(latency);
  if (code == Code::kOk) return;
  std::atomic<obs::Counter*>& slot = row.failures[PlaceOf(code) % kMaxCodes];
  obs::Counter* counter = slot.load(std::memory_order_acquire);
  if (counter == nullptr) {
    // Two threads that meet here get the same counter from the registry.
    counter = &registry_.AddCounter(kFailuresName, kFailuresHelp,
                                    {{"method", method.name}, {"code", std::string(CodeName(code))}});
    slot.store(counter, std::memory_order_release);
  }
  counter->Add();
}

Status MethodTable::Run(const MethodEntry& method, const CallContext& context,
                        const google::protobuf::MessageLite& request, google::protobuf::MessageLite* reply) {
  try {
    return method.sync(context, request, reply);
  } catch (const std::exception& e) {
    MMC_LOG(ERROR) << method.name << " request " << context.request_id << " from " << context.peer << ": " << e.what();
    return Status(Code::kInternal, method.name + ": " + e.what());
  }
}

}  // namespace mmc::rpc
