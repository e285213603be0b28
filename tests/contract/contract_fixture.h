// What the contract tests share: the cases (every transport and memory kind there is or will be), a served set of
// regions seen through a second mapping, and helper processes.
//
// Segments of the fixture: 1 data (64 MiB, read-write), 2 flags (2 MiB, read-write), 3 fixed (2 MiB, read-only).
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/mutex.h"
#include "fabric/memory.h"
#include "fabric/transport.h"
#include "fabric/unique_fd.h"

namespace mmc::fabric::contract {

struct FabricCase {
  const char* transport;
  const char* memory;
  const char* absent;  // why it cannot run here; null when it can
  bool tls = false;
};
std::vector<FabricCase> AllCases();
std::string CaseName(const testing::TestParamInfo<FabricCase>& info);

inline constexpr RegionRef kData{1, 1};
inline constexpr RegionRef kFlags{2, 1};
inline constexpr RegionRef kFixed{3, 1};
inline constexpr uint64_t kDataBytes = 64_MiB;

// Long enough that only a hang reaches it.
TimePoint Soon();
TimePoint InMs(int64_t ms);

// Bytes that tell position and seed.
std::vector<std::byte> Pattern(uint64_t size, uint64_t seed);

// Counts events; waits for them.
class Latch {
 public:
  void Hit();
  bool Wait(int count, TimePoint deadline);
  int count() const;

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  int count_ MMC_GUARDED_BY(mutex_) = 0;
};

// A fresh directory, gone with the object.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A process that serves segment 1 of 64 MiB (tests/contract/region_server.cc); under TLS when `certificates` names a
// folder that make_certs has filled.
class ServerProcess {
 public:
  ServerProcess(const std::string& transport, const std::string& address, const std::string& certificates = "");
  ~ServerProcess();  // kills it when it still lives
  const std::string& address() const { return address_; }
  pid_t pid() const { return pid_; }
  void Stop();  // SIGSTOP, and waits until it stands still
  void Kill();  // kill -9, and waits until it is gone

 private:
  pid_t pid_ = -1;
  UniqueFd input_;  // the process ends when this closes
  std::string address_;
};

class TransportContract : public testing::TestWithParam<FabricCase> {
 protected:
  void SetUp() override;
  void TearDown() override;

  std::string NewAddress();
  std::shared_ptr<Link> Connect(LinkOptions options = {});
  // To any address, with what the case adds to the options.
  Result<std::shared_ptr<Link>> Dial(const std::string& address, LinkOptions options, TimePoint deadline);
  LinkOptions Secured(LinkOptions options = {}) const;
  std::unique_ptr<ServerProcess> Serve();
  // What a write may answer when its connection is lost: cut by whom is not known under TLS.
  bool IsLoss(Code code) const {
    return code == Code::kPeerUnreachable || (GetParam().tls && code == Code::kUnconfirmed);
  }
  Op DataOp(std::byte* local, uint64_t offset, uint64_t length) { return {local, kData, offset, length}; }
  bool IsLoopback() const { return std::string(GetParam().transport) == "loopback"; }
  bool IsTcp() const { return std::string(GetParam().transport) == "tcp"; }

  TempDir dir_;
  Transport* transport_ = nullptr;
  std::shared_ptr<SegmentMemory> data_;
  std::shared_ptr<SegmentMemory> flags_;
  std::shared_ptr<SegmentMemory> fixed_;
  std::shared_ptr<SegmentMemory> seen_;        // data_, mapped a second time
  std::shared_ptr<SegmentMemory> flags_seen_;  // flags_, likewise
  RegionTable regions_;
  std::unique_ptr<Listener> listener_;
};

}  // namespace mmc::fabric::contract
