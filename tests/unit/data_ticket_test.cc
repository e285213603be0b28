// Goal: with TLS on both planes, a tenant's client reaches over TCP the bytes that the meta service has told it of,
// and no others: not those of another tenant, not with another's tickets, and not after the space has become others'.
// Method: a meta service, a node and clients in this process, all with certificates; where ours go by the rules, calls
// and links by hand.
#include <gmock/gmock.h>

#include "common/base/limits.h"
#include "fabric/tcp/tcp.h"
#include "proto/key_list.h"
#include "tests/contract/certificates.h"
#include "tests/unit/client_cluster.h"

namespace mmc::test {
namespace {

using fabric::Direction;
using fabric::contract::Certificates;
using std::chrono::milliseconds;

Certificates& Certs() {
  static Certificates certs({"--node", "node-a"});
  static const bool issued = [] {
    certs.Issue("alpha", "client", {"--tenant", "alpha"});
    certs.Issue("beta", "client", {"--tenant", "beta"});
    return true;
  }();
  EXPECT_TRUE(issued);
  return certs;
}

class Pool {
 public:
  explicit Pool(uint64_t bytes, milliseconds write_ticket = milliseconds(20'000)) : write_ticket_(write_ticket) {
    StartMeta("tcp://127.0.0.1:0", milliseconds(0));
    local::LocalOptions node;
    node.meta_url = url_;
    node.name = "node-a";
    node.dram_bytes = bytes;
    node.prefault = false;
    node.hugepages = false;
    node.shm_enable = false;
    node.data_url = "tcp://127.0.0.1:0";
    node.data_url_set = true;
    node.catalog_directory = folder_.path();
    node.tls = node.data_tls = Certs().OptionsOf("local");
    auto made = local::LocalService::Create(node, Channel("local"));
    EXPECT_TRUE(made.ok()) << made.status().ToString();
    node_ = std::move(made).value();
    const Status started = node_->Start();
    EXPECT_TRUE(started.ok()) << started.ToString();
  }
  ~Pool() {
    node_->Stop(In(std::chrono::seconds(2)));
    meta_->Stop(In(std::chrono::seconds(2)));
  }
  void RestartMeta() {
    meta_->Stop(In(std::chrono::seconds(2)));
    meta_.reset();
    StartMeta(url_, milliseconds(60'000));  // or until its node has reported
  }
  std::unique_ptr<Client> Connect(const std::string& name) {
    ClientOptions options;
    options.meta_url = url_;
    options.timeout = std::chrono::seconds(30);
    options.tls = options.data_tls = Certs().OptionsOf(name);
    auto client = Client::Connect(options);
    EXPECT_TRUE(client.ok()) << client.status().ToString();
    return client.ok() ? std::move(client).value() : nullptr;
  }
  std::shared_ptr<rpc::Channel> Channel(const std::string& name) {
    auto made = rpc::MakeTcpChannel({.url = url_, .tls = Certs().ContextOf(name)});
    EXPECT_TRUE(made.ok()) << made.status().ToString();
    return std::move(made).value();
  }
  std::shared_ptr<fabric::Link> Link(const std::string& name, uint64_t session) {
    auto link = fabric::tcp::Connect(node_->endpoints().front().address,
                                     {.tls = Certs().ContextOf(name), .session = session}, In(milliseconds(20'000)));
    EXPECT_TRUE(link.ok()) << link.status().ToString();
    return link.ok() ? *link : nullptr;
  }

 private:
  void StartMeta(const std::string& url, milliseconds recovery) {
    meta::MetaOptions options;
    options.url = url;
    options.metrics_url.clear();
    options.tls = Certs().OptionsOf("meta");
    options.write_ticket = write_ticket_;
    options.recovery = recovery;
    options.state_path = folder_.path();
    options.heartbeat = milliseconds(100);
    auto made = meta::MetaService::Create(options);
    ASSERT_TRUE(made.ok()) << made.status().ToString();
    meta_ = std::move(made).value();
    const Status started = meta_->Start();
    ASSERT_TRUE(started.ok()) << started.ToString();
    url_ = "tcp://127.0.0.1:" + std::to_string(meta_->port());
  }

  const milliseconds write_ticket_;
  TempDir folder_;
  std::string url_;
  std::unique_ptr<meta::MetaService> meta_;
  std::unique_ptr<local::LocalService> node_;
};

// Calls and moves bytes without asking whether that is allowed.
class ByHand {
 public:
  ByHand(Pool& pool, const std::string& name) : pool_(pool), name_(name), channel_(pool.Channel(name)) {
    proto::OpenSessionReply reply;
    Call(proto::kOpenSession, proto::OpenSessionRequest(), &reply);
    session = reply.session();
  }
  ~ByHand() { channel_->Close(); }

  template <typename Method>
  void Call(const Method& method, const typename Method::Request& request, typename Method::Reply* reply) {
    const Status called = channel_->Call(method, request, reply, In(milliseconds(20'000)));
    ASSERT_TRUE(called.ok()) << called.ToString();
  }
  proto::ReplicaColumns Lookup(const std::string& key) {
    proto::LookupRequest request;
    request.set_session(session);
    proto::AppendKey(key, request.mutable_keys());
    proto::LookupReply reply;
    Call(proto::kLookup, request, &reply);
    return reply.replicas();
  }
  proto::PutStartReply PutStart(const std::string& key, uint64_t size) {
    proto::PutStartRequest request;
    request.set_session(session);
    proto::AppendKey(key, request.mutable_keys());
    request.add_sizes(size);
    proto::PutStartReply reply;
    Call(proto::kPutStart, request, &reply);
    return reply;
  }
  // The first extent of a reply, as its ticket says, or as `ticket` does; over a connection of `of_session`.
  Code Move(Direction direction, const proto::ReplicaColumns& at, const fabric::Ticket* ticket, std::string* bytes,
            uint64_t of_session = 0) {
    const auto link = pool_.Link(name_, of_session == 0 ? session : of_session);
    const fabric::Op op{.local = reinterpret_cast<std::byte*>(bytes->data()),
                        .remote = {at.segment(0), at.epoch(0)},
                        .remote_offset = at.extent_offset(0),
                        .length = bytes->size(),
                        .ticket = ticket};
    return link->Execute(direction, {&op, 1}, In(milliseconds(20'000))).code();
  }
  static fabric::Ticket TicketOf(const proto::ReplicaColumns& at) {
    EXPECT_EQ(at.seal_size(), 2 * at.extent_offset_size());
    if (at.seal_size() < 2) return {};
    return {at.extent_offset(0), at.extent_length(0), at.ticket_end_ms(), {at.seal(0), at.seal(1)}};
  }

  uint64_t session = 0;

 private:
  Pool& pool_;
  const std::string name_;
  const std::shared_ptr<rpc::Channel> channel_;
};

TEST(DataTicket, EachTenantReachesItsOwnBytesOnly) {
  Pool pool(16_MiB);
  const auto alpha = pool.Connect("alpha");
  const auto beta = pool.Connect("beta");
  const std::string secret = Pattern(100'000, 1);
  const std::string other = Pattern(3'000'017, 2);
  ASSERT_TRUE(PutOne(*alpha, "k", secret).ok());
  ASSERT_TRUE(PutOne(*beta, "k", other).ok());
  EXPECT_EQ(GetOne(*alpha, "k").value_or(""), secret);
  EXPECT_EQ(GetOne(*beta, "k").value_or(""), other);

  ByHand owner(pool, "alpha");
  ByHand thief(pool, "beta");
  const proto::ReplicaColumns theirs = owner.Lookup("k");
  const fabric::Ticket ticket = ByHand::TicketOf(theirs);
  const fabric::Ticket own = ByHand::TicketOf(thief.Lookup("k"));
  std::string got(secret.size(), '\0');
  // The place is no secret: everybody can count.
  EXPECT_EQ(thief.Move(Direction::kRead, theirs, nullptr, &got), Code::kPermission);
  EXPECT_EQ(thief.Move(Direction::kRead, theirs, &own, &got), Code::kPermission);
  EXPECT_EQ(thief.Move(Direction::kRead, theirs, &ticket, &got), Code::kPermission) << "a stolen one";
  EXPECT_EQ(thief.Move(Direction::kRead, theirs, &ticket, &got, owner.session), Code::kPermission)
      << "and the session with it";
  fabric::Ticket moved = own;
  moved.offset = theirs.extent_offset(0);
  EXPECT_EQ(thief.Move(Direction::kRead, theirs, &moved, &got), Code::kPermission);
  EXPECT_EQ(thief.Move(Direction::kWrite, theirs, &ticket, &got), Code::kPermission);
  EXPECT_EQ(owner.Move(Direction::kWrite, theirs, &ticket, &got), Code::kPermission) << "what is put stays as it is";
  EXPECT_EQ(got, std::string(secret.size(), '\0'));
  ASSERT_EQ(owner.Move(Direction::kRead, theirs, &ticket, &got), Code::kOk) << "the test cannot fail";
  EXPECT_EQ(got, secret);
  EXPECT_EQ(GetOne(*alpha, "k").value_or(""), secret);
}

TEST(DataTicket, SpaceThatWasGivenBackIsNotOthersBeforeTheTicketIsOver) {
  Pool pool(4_MiB, milliseconds(3000));
  ByHand writer(pool, "alpha");
  const proto::PutStartReply grant = writer.PutStart("a", 3_MiB);
  ASSERT_EQ(grant.status(0), 0u);
  const fabric::Ticket ticket = ByHand::TicketOf(grant.replicas());
  std::string bytes(4096, 'x');
  EXPECT_EQ(writer.Move(Direction::kWrite, grant.replicas(), &ticket, &bytes), Code::kOk);
  proto::PutAbortRequest abort;
  abort.set_session(writer.session);
  abort.add_grant(grant.grant(0));
  proto::PutAbortReply aborted;
  writer.Call(proto::kPutAbort, abort, &aborted);
  // It waits for the space, which is the same.
  const auto beta = pool.Connect("beta");
  const std::string value = Pattern(3_MiB, 3);
  ASSERT_TRUE(PutOne(*beta, "b", value).ok());
  ByHand reader(pool, "beta");
  EXPECT_EQ(reader.Lookup("b").extent_offset(0), grant.replicas().extent_offset(0));
  EXPECT_EQ(writer.Move(Direction::kWrite, grant.replicas(), &ticket, &bytes), Code::kLeaseExpired);
  EXPECT_EQ(GetOne(*beta, "b").value_or(""), value);
}

TEST(DataTicket, APoolThatIsFullTakesMoreAndARestartChangesNothing) {
  Pool pool(8_MiB, milliseconds(2000));
  const auto client = pool.Connect("alpha");
  for (int i = 0; i < 11; ++i) {
    const std::string key = "k" + std::to_string(i);
    const std::string value = Pattern(1_MiB, static_cast<uint64_t>(i));
    const Status put = PutOne(*client, key, value);
    ASSERT_TRUE(put.ok()) << i << ": " << put.ToString();
    EXPECT_EQ(GetOne(*client, key).value_or(""), value);
  }
  pool.RestartMeta();
  const std::string value = Pattern(500'000, 99);
  const Status put = PutOne(*client, "after", value);
  ASSERT_TRUE(put.ok()) << put.ToString();
  EXPECT_EQ(GetOne(*client, "after").value_or(""), value);
}

}  // namespace
}  // namespace mmc::test
