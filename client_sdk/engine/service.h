// The serving half of a transfer engine: tells others what memory is lent, takes their notes, and has the listeners
// through which the fabric reads and writes that memory.
//
// Thread safety: all methods from any thread. Ownership: owns its server and listeners; shares the memory. Running
// accesses of others have ended when the destructor returns.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "client_sdk/engine/lent_memory.h"
#include "client_sdk/engine/options.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/rpc/server.h"
#include "common/security/tls_context.h"
#include "fabric/transport.h"
#include "proto/engine.pb.h"

namespace mmc::engine {

class Service {
 public:
  static constexpr size_t kMaxNoteBytes = 1 << 20;
  static constexpr size_t kMaxNotesBytes = 16 << 20;  // of all that nobody has taken
  static constexpr size_t kMaxNotes = 65536;

  // Serving when it returns. Errors: kInvalidArgument (the address), kIo (it is in use).
  static Result<std::unique_ptr<Service>> Start(const EngineOptions& options,
                                                std::shared_ptr<security::TlsContext> tls,
                                                std::shared_ptr<LentMemory> memory);
  ~Service();
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  uint16_t port() const { return server_->port(); }
  // Those that came since the last call.
  std::vector<Note> TakeNotes();
  // Closes the connections through which others reach the memory; they connect again when they need one.
  void CutNetwork();
  void CutHost();

 private:
  Service(std::shared_ptr<security::TlsContext> tls, std::shared_ptr<LentMemory> memory);
  Status Open(const EngineOptions& options);
  Status ListenNetwork(const std::string& host, const EngineOptions& options);
  void ListenHost();
  Status CheckCaller(const rpc::CallContext& call) const;
  void Describe(proto::DescribeEngineReply* reply) const;
  Status TakeNote(const proto::EngineNoteRequest& note);

  const std::shared_ptr<security::TlsContext> tls_;
  const std::shared_ptr<LentMemory> memory_;
  const uint64_t incarnation_;
  const std::string host_id_;
  std::string directory_;  // of the socket for this host; empty: none
  uint16_t tcp_port_ = 0;
  std::unique_ptr<fabric::Listener> network_;
  std::unique_ptr<fabric::Listener> host_;  // null: no shared memory
  std::unique_ptr<rpc::Server> server_;

  Mutex mutex_;
  std::deque<Note> notes_ MMC_GUARDED_BY(mutex_);
  size_t note_bytes_ MMC_GUARDED_BY(mutex_) = 0;
};

}  // namespace mmc::engine
