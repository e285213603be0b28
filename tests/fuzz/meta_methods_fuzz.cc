// The first byte picks a method, the rest is its protobuf body, dispatched through the in-process
// server of a meta service that has a node, a session (number 1 in the input is replaced by it) and
// some objects.
//
// Whatever comes, the service answers, and afterwards its books balance: used bytes are within the
// capacity.
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "common/base/bytes.h"
#include "meta_service/meta_service.h"
#include "meta_service/state/meta_state.h"
#include "proto/key_list.h"
#include "proto/methods.h"

namespace mmc::meta {
namespace {

using namespace std::chrono_literals;

struct World {
  World() {
    MetaOptions options;
    options.url.clear();
    options.metrics_url.clear();
    options.max_sessions = 1024;
    service = std::move(MetaService::Create(options)).value();
    if (!service->Start().ok()) std::abort();
    channel = service->InProcessChannel();
    proto::JoinRequest join;
    join.set_name("n");
    join.set_incarnation(1);
    auto* segment = join.add_segments();
    segment->set_id(1);
    segment->set_epoch(1);
    segment->set_size(16_MiB);
    Call(proto::kJoin, join);
    proto::OpenSessionReply opened;
    if (!channel->Call(proto::kOpenSession, {}, &opened, Deadline()).ok()) std::abort();
    session = opened.session();
  }
  static TimePoint Deadline() { return Clock::Real().Now() + 20ms; }

  template <typename Method>
  void Call(const Method& method, const typename Method::Request& request) {
    typename Method::Reply reply;
    // Any status is an answer; a fault is a crash, a hang or a leak.
    const Status answered = channel->Call(method, request, &reply, Deadline());
    (void)answered;
  }
  template <typename Method>
  void Parse(const Method& method, const uint8_t* data, size_t size) {
    typename Method::Request request;
    if (!request.ParseFromArray(data, static_cast<int>(size))) return;
    if constexpr (requires { request.set_session(session); }) {
      if (request.session() == 1) request.set_session(session);
    }
    if constexpr (requires { request.set_wait_ms(0); }) request.set_wait_ms(0);
    Call(method, request);
  }
  void Dispatch(uint8_t pick, const uint8_t* data, size_t size) {
    switch (pick % 26) {
      case 0:
        return Parse(proto::kOpenSession, data, size);
      case 1:
        return Parse(proto::kSessionHeartbeat, data, size);
      case 2:
        return Parse(proto::kPutStart, data, size);
      case 3:
        return Parse(proto::kPutCommit, data, size);
      case 4:
        return Parse(proto::kPutAbort, data, size);
      case 5:
        return Parse(proto::kLookup, data, size);
      case 6:
        return Parse(proto::kUnpin, data, size);
      case 7:
        return Parse(proto::kLookupPrefix, data, size);
      case 8:
        return Parse(proto::kExists, data, size);
      case 9:
        return Parse(proto::kStat, data, size);
      case 10:
        return Parse(proto::kRemove, data, size);
      case 11:
        return Parse(proto::kRemoveAll, data, size);
      case 12:
        return Parse(proto::kRemoveByPrefix, data, size);
      case 13:
        return Parse(proto::kList, data, size);
      case 14:
        return Parse(proto::kJoin, data, size);
      case 15:
        return Parse(proto::kNodeHeartbeat, data, size);
      case 16:
        return Parse(proto::kNodeLeave, data, size);
      case 17:
        return Parse(proto::kCatalogSync, data, size);
      case 18:
        return Parse(proto::kReportReplica, data, size);
      case 19:
        return Parse(proto::kDirectory, data, size);
      case 20:
        return Parse(proto::kClusterStatus, data, size);
      case 21:
        return Parse(proto::kCloseSession, data, size);
      case 22:
        return Parse(proto::kCatalogReport, data, size);
      case 23:
        return Parse(proto::kDrain, data, size);
      case 24:
        return Parse(proto::kScrub, data, size);
      default:
        return Parse(proto::kScrubStatus, data, size);
    }
  }

  std::unique_ptr<MetaService> service;
  std::shared_ptr<rpc::Channel> channel;
  uint64_t session = 0;
};

}  // namespace
}  // namespace mmc::meta

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using mmc::meta::World;
  static std::unique_ptr<World> world;
  static int inputs = 0;
  if (size == 0) return 0;
  // A fresh world now and then, so that nodes, sessions and objects of old inputs do not fill it
  // for good.
  if (inputs++ % 2000 == 0) {
    world.reset();
    world = std::make_unique<World>();
  }
  world->Dispatch(data[0], data + 1, size - 1);
  const auto figures = world->service->state().figures();
  if (figures.used_bytes > figures.capacity_bytes || figures.waiting_bytes > figures.used_bytes)
    std::abort();
  return 0;
}
