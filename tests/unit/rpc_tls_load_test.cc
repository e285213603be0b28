// TLS on the control protocol under load: many threads, big and small messages, reloads, revocation.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "common/security/tls_context.h"
#include "tests/unit/rpc_fixture.h"
#include "tests/unit/test_certs.h"

namespace mmc::rpc {
namespace {

using security::TlsContext;
using ::testing::HasSubstr;
using test::CertPair;
using test::TestCa;

std::shared_ptr<TlsContext> Load(const security::TlsOptions& options) {
  const auto made = TlsContext::Load(options);
  EXPECT_TRUE(made.ok()) << made.status().ToString();
  return made.ok() ? *made : nullptr;
}

class TlsLoadTest : public ::testing::Test {
 protected:
  void Start() {
    server_tls_ = Load(test::WriteTls(dir_, "server", both_, ca_.Issue({.role = "meta"}), Lists()));
    client_tls_ = Load(test::WriteTls(dir_, "client", both_, client_));
    ServerOptions options;
    options.tls = server_tls_;
    service_ = std::make_unique<EchoService>(options);
    ASSERT_TRUE(service_->Start().ok());
  }

  std::string Lists() { return ca_.Revoke({}) + next_.Revoke({}); }

  test::TempDir dir_;
  TestCa ca_;
  TestCa next_{"next authority"};
  const std::string both_ = ca_.cert() + next_.cert();
  CertPair client_ = ca_.Issue({.role = "client"});
  std::shared_ptr<TlsContext> server_tls_, client_tls_;
  std::unique_ptr<EchoService> service_;
};

TEST_F(TlsLoadTest, ManyThreadsBigAndSmallMessages) {
  Start();
  const auto channel = service_->Connect({.tls = client_tls_});
  std::atomic<int> wrong{0};
  std::atomic<int> async_done{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 40; ++i) {
        // Sizes around those of records, buffers and the reader's room.
        const size_t size = static_cast<size_t>(t) * 4096 + static_cast<size_t>(i) * 1021 + (i % 10 == 0 ? 400'000 : 0);
        const KeyList request = Text(std::string(size, static_cast<char>('a' + t)));
        KeyList reply;
        const Status status = channel->Call(kEcho, request, &reply, Soon());
        if (!status.ok() || reply.data() != request.data()) ++wrong;
        channel->CallAsync(kEchoLater, request, Soon(), [&, size](Status s, const std::shared_ptr<KeyList>& r) {
          if (!s.ok() || r->data().size() != size) ++wrong;
          ++async_done;
        });
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_TRUE(Eventually([&] { return async_done.load() == 8 * 40; }));
  EXPECT_EQ(wrong.load(), 0);
}

TEST_F(TlsLoadTest, ReloadsLoseNoCall) {
  Start();
  std::atomic<bool> stop{false};
  std::atomic<int> calls{0};
  std::atomic<int> failures{0};
  std::string first_failure;
  Mutex mutex;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::shared_ptr<Channel> channel;
      while (!stop.load()) {
        // Half of the threads connect anew all the time.
        if (!channel || t % 2 == 0) channel = service_->Connect({.tls = client_tls_});
        KeyList reply;
        const Status status = channel->Call(kEcho, Text("still here"), &reply, Soon());
        ++calls;
        if (status.ok() && reply.data() == "still here") continue;
        ++failures;
        MutexLock lock(mutex);
        first_failure = status.ToString();
      }
    });
  }
  for (int round = 0; round < 8; ++round) {
    // Certificates of one authority give way to those of the other; both are trusted all the time.
    TestCa& issuer = round % 2 == 0 ? next_ : ca_;
    test::WriteTls(dir_, "server", both_, issuer.Issue({.role = "meta"}), Lists());
    ASSERT_TRUE(server_tls_->Reload().ok());
    test::WriteTls(dir_, "client", both_, issuer.Issue({.role = "client"}));
    ASSERT_TRUE(client_tls_->Reload().ok());
    const int before = calls.load();
    EXPECT_TRUE(Eventually([&] { return calls.load() > before + 20 || failures.load() > 0; }));
  }
  stop = true;
  for (auto& thread : threads) thread.join();
  MutexLock lock(mutex);
  EXPECT_EQ(failures.load(), 0) << first_failure;
}

TEST_F(TlsLoadTest, RevocationEndsConnectionsAndKeepsOutNewOnes) {
  Start();
  const auto open = service_->Connect({.tls = client_tls_});
  KeyList reply;
  ASSERT_TRUE(open->Call(kEcho, Text("a"), &reply, Soon()).ok());
  const auto other = service_->Connect(
      {.tls = Load(test::WriteTls(dir_, "other", both_, ca_.Issue({.role = "client"})))});
  ASSERT_TRUE(other->Call(kEcho, Text("a"), &reply, Soon()).ok());
  const uint64_t epoch = other->connection_epoch();
  test::Replace(dir_, "server.crl.pem", ca_.Revoke({client_}) + next_.Revoke({}));
  ASSERT_TRUE(server_tls_->Reload().ok());
  const int before = service_->echoes.load();
  EXPECT_FALSE(open->Call(kEcho, Text("b"), &reply, Soon()).ok());
  EXPECT_EQ(service_->echoes.load(), before) << "what came over the open connection was not run";
  EXPECT_TRUE(other->Call(kEcho, Text("b"), &reply, Soon()).ok());
  EXPECT_EQ(other->connection_epoch(), epoch) << "the others keep theirs";
  const Status refused = service_->Connect({.tls = client_tls_})->Call(kEcho, Text("c"), &reply, Soon());
  EXPECT_EQ(refused.code(), Code::kPermission);
  EXPECT_THAT(refused.message(), HasSubstr("it is revoked"));
  // A list that has run out speaks for nobody.
  test::Replace(dir_, "server.crl.pem", ca_.Revoke({}, -60) + next_.Revoke({}));
  ASSERT_TRUE(server_tls_->Reload().ok());
  EXPECT_EQ(service_->Connect({.tls = client_tls_})->Call(kEcho, Text("d"), &reply, Soon()).code(), Code::kPermission);
  test::Replace(dir_, "server.crl.pem", Lists());
  ASSERT_TRUE(server_tls_->Reload().ok());
  EXPECT_TRUE(service_->Connect({.tls = client_tls_})->Call(kEcho, Text("e"), &reply, Soon()).ok());
}

}  // namespace
}  // namespace mmc::rpc
