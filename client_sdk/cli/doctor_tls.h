// `mmc doctor --tls`: the own files one by one, then a handshake with each peer, in words: which file, which name,
// which date.
//
// Thread safety: none. Ownership: values.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "client_sdk/cli/doctor.h"
#include "common/rpc/url.h"
#include "common/security/tls_context.h"

namespace mmc::cli {

// Each file that `options` names: there, private where it must be, well formed, within its dates, and fitting to the
// others. `context` is set when all of it can be used.
std::vector<Check> CheckTlsFiles(const security::TlsOptions& options, std::shared_ptr<security::TlsContext>* context);

struct TlsPeer {
  std::string name;  // "meta service"
  rpc::Url url;
  security::PeerWanted wanted;
  std::string probe;  // sent once the handshake is done; any answer means that this side's certificate was taken
};
TlsPeer MetaPeer(const rpc::Url& url);
TlsPeer DataPeer(const std::string& node, const rpc::Url& url);
TlsPeer HttpPeer(const rpc::Url& url);

Check CheckTlsPeer(security::TlsContext& context, const TlsPeer& peer, std::chrono::milliseconds timeout);

// All of it: the files of both planes that `values` turn on, each address of `options.meta_url`, and the data ports of
// the nodes when the pool can be asked for them. `http`: a page to ask over TLS; empty: none.
std::vector<Check> CheckTls(const config::Values& values, const ClientOptions& options, const std::string& http,
                            const PoolConnector& connect);

}  // namespace mmc::cli
