// Endpoints: where a local service's memory can be reached. Opens one listener per transport that
// the options ask for and this build and machine have, and treats them as one when a session is
// fenced.
//
// Thread safety: Open* and Close from one thread at a time, Close not together with Fence; the rest
// from any. Ownership: owns the listeners; the region table must outlive it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/security/tls_context.h"
#include "fabric/memory.h"
#include "fabric/transport.h"
#include "local_service/options.h"

namespace mmc::local {

class Endpoints {
 public:
  // `tls`, `tickets`: of the TCP endpoint; null: none.
  Endpoints(const LocalOptions& options, fabric::RegionTable& regions,
            std::shared_ptr<security::TlsContext> tls = nullptr,
            std::shared_ptr<const fabric::TicketJudge> tickets = nullptr)
      : options_(options), regions_(regions), tls_(std::move(tls)), tickets_(std::move(tickets)) {}

  // The transports between hosts. A preferred one that is not there is an error when the options
  // are strict, else a warning. Errors: kUnsupported (strict), kIo (address in use), kConfig
  // (address).
  Status OpenNetwork();
  // Those within this host, under names made from the node's. `presence_file`: see
  // fabric::ListenOptions.
  Status OpenHost(const std::string& node, const std::string& presence_file);
  // Running accesses have ended when it returns.
  void Close();

  // Of the TCP endpoint; 0 without one.
  uint16_t data_port() const { return data_port_; }
  // The preferred transport first.
  std::vector<fabric::Endpoint> List() const;
  // See fabric::Listener::Fence; `done` runs when all listeners are through.
  void Fence(uint64_t session, std::function<void()> done);
  void RefuseBelow(uint64_t session);
  uint64_t connections() const;
  // Accesses that the listeners are carrying out now.
  uint64_t running() const;

 private:
  Status OpenPreferred();
  Status OpenTcp();
  Status OpenShm(const std::string& node, const std::string& presence_file);
  Status Listen(const std::string& transport, const std::string& address,
                const std::string& presence_file = "");

  const LocalOptions& options_;
  fabric::RegionTable& regions_;
  const std::shared_ptr<security::TlsContext> tls_;
  const std::shared_ptr<const fabric::TicketJudge> tickets_;
  uint16_t data_port_ = 0;
  mutable Mutex mutex_;
  std::vector<std::unique_ptr<fabric::Listener>> listeners_ MMC_GUARDED_BY(mutex_);
};

// The host to tell others for a listener on all addresses ("0.0.0.0", "::"): that of the first
// interface that is up and not the loopback; `host` itself when it names one address, or nothing
// better is found.
std::string AdvertisedHost(const std::string& host);

}  // namespace mmc::local
