// Messages to systemd: READY=1, STOPPING=1, STATUS=...
//
// Thread safety: any thread.
#pragma once

#include <string_view>

namespace mmc::runtime {

// Sends `state` to the socket that NOTIFY_SOCKET names (a path, or an abstract name after '@').
// Nothing happens when the variable is not set; a socket that does not answer is not an error for
// the daemon. True when it was sent.
bool NotifySystemd(std::string_view state);

}  // namespace mmc::runtime
