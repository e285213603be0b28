// The only place that knows which transports this build has.
#include "fabric/loopback/loopback.h"
#include "fabric/shm/shm.h"
#include "fabric/tcp/tcp.h"
#include "fabric/transport.h"

namespace mmc::fabric {

std::vector<Transport*> AllTransports() {
  return {&loopback::Instance(), &shm::Instance(), &tcp::Instance()};
}

Transport* FindTransport(std::string_view name) {
  for (Transport* transport : AllTransports()) {
    if (name == transport->capabilities().name) return transport;
  }
  return nullptr;
}

}  // namespace mmc::fabric
