#include "fabric/tcp/frame.h"

#include <string>

namespace mmc::fabric::tcp {

Status CheckHello(const Hello& hello) {
  if (hello.magic != kHelloMagic) return Status(Code::kMalformed, "a hello with a wrong magic number");
  if (hello.version != kVersion) {
    return Status(Code::kBadVersion, "data protocol version " + std::to_string(hello.version) +
                                         " is not spoken here; this is version " + std::to_string(kVersion));
  }
  if (hello.access > 1) return Status(Code::kMalformed, "a hello with an unknown access right");
  return Status::Ok();
}

Status CheckRequest(const RequestHead& head) {
  if (head.magic != kRequestMagic) return Status(Code::kMalformed, "a request with a wrong magic number");
  if (head.direction > 1) return Status(Code::kMalformed, "a request that neither reads nor writes");
  if (head.ticketed > 1) return Status(Code::kMalformed, "a request of a later version");
  if (head.op_count == 0 || head.total == 0) return Status(Code::kMalformed, "a request for nothing");
  const uint32_t most = head.ticketed != 0 ? kMaxTicketedOps : kMaxOps;
  if (head.op_count > most) {
    return Status(Code::kTooLarge, std::to_string(head.op_count) + " ops in one request; at most " +
                                       std::to_string(most));
  }
  if (head.total > kMaxRequestBytes) {
    return Status(Code::kTooLarge, std::to_string(head.total) + " bytes in one request; at most 1 GiB");
  }
  return Status::Ok();
}

Status CheckWireOps(const RequestHead& head, std::span<const WireOp> ops) {
  uint64_t total = 0;
  for (const WireOp& op : ops) {
    // Each length is at most 1 GiB and there are few: the sum cannot overflow.
    if (op.length == 0 || op.length > head.total) {
      return Status(Code::kMalformed, "an op of " + std::to_string(op.length) + " bytes in a request of " +
                                          std::to_string(head.total));
    }
    total += op.length;
  }
  if (ops.size() == head.op_count && total == head.total) return Status::Ok();
  return Status(Code::kMalformed, "ops of " + std::to_string(total) + " bytes in a request of " +
                                      std::to_string(head.total));
}

}  // namespace mmc::fabric::tcp
