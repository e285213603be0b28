// TLS over the byte stream of a channel.
//
// Thread safety: as ByteStream. Ownership: owns the stream below; shares what the session is made from.
#pragma once

#include <memory>

#include "common/rpc/client_stream.h"
#include "common/security/tls_session.h"

namespace mmc::rpc {

// `below` has connected; the handshake begins with the first Handshake(). Errors: as TlsSession::Client.
Result<std::unique_ptr<ByteStream>> MakeTlsByteStream(std::unique_ptr<ByteStream> below,
                                                      security::TlsContext& context,
                                                      const security::PeerWanted& wanted);

}  // namespace mmc::rpc
