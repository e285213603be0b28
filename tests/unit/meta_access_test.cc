// Who may call what: every method that the meta service registers, with every role; sessions and nodes of others;
// whose keys a certificate may name.
#include <gtest/gtest.h>
#include <google/protobuf/message.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "common/base/bytes.h"
#include "meta_service/mover/mover.h"
#include "meta_service/ops/ops.h"
#include "proto/key_list.h"

namespace mmc::meta {
namespace {

using security::Identity;
using security::Role;

// What may be called by whom. A method that is registered and not here fails the test.
const std::map<std::string, std::set<Role>>& Expected() {
  static const std::set<Role> users{Role::kClient, Role::kAdmin}, nodes{Role::kLocal}, admins{Role::kAdmin},
      all{Role::kClient, Role::kAdmin, Role::kLocal, Role::kMeta};
  static const std::map<std::string, std::set<Role>> expected{
      {"OpenSession", users},    {"SessionHeartbeat", users}, {"CloseSession", users}, {"PutStart", users},
      {"PutCommit", users},      {"PutAbort", users},         {"Lookup", users},       {"Unpin", users},
      {"LookupPrefix", users},   {"Exists", users},           {"Stat", users},         {"Remove", users},
      {"RemoveByPrefix", users}, {"List", users},             {"ReportReplica", users}, {"RemoveAll", admins},
      {"Join", nodes},           {"NodeHeartbeat", nodes},    {"NodeLeave", nodes},    {"CatalogSync", nodes},
      {"CatalogReport", nodes},  {"Directory", all},          {"ClusterStatus", all},  {"Drain", admins},
      {"Scrub", admins},         {"ScrubStatus", admins}};
  return expected;
}

// Keeps what is registered, and calls it as a given caller.
class Handlers final : public rpc::Server {
 public:
  struct Handler {
    std::string name;
    MakeMessage make_request = nullptr, make_reply = nullptr;
    SyncBody sync;
    AsyncBody async;
  };

  Status Start() override { return Status::Ok(); }
  void Stop(TimePoint) override {}
  uint16_t port() const override { return 0; }
  boost::asio::any_io_executor executor() override { return io_.get_executor(); }
  std::shared_ptr<rpc::Channel> InProcessChannel() override { return nullptr; }

  Status CallRaw(const Handler& handler, const Identity& caller, const google::protobuf::MessageLite& request,
                 google::protobuf::MessageLite* reply) {
    rpc::CallContext context;
    context.deadline = Clock::Real().Now() + std::chrono::seconds(30);
    context.identity = std::make_shared<const Identity>(caller);
    if (handler.sync) return handler.sync(context, request, reply);
    std::optional<Status> answer;
    boost::asio::co_spawn(io_, handler.async(context, request, reply),
                          [&](std::exception_ptr failed, Status status) {
                            EXPECT_EQ(failed, nullptr);
                            answer = std::move(status);
                          });
    io_.restart();
    io_.run();
    EXPECT_TRUE(answer.has_value()) << handler.name;
    return answer.value_or(Status(Code::kInternal, "no answer"));
  }
  template <typename Method>
  Status Call(const Method& method, const Identity& caller, const typename Method::Request& request,
              typename Method::Reply* reply) {
    return CallRaw(handlers.at(method.id), caller, request, reply);
  }

  std::map<uint16_t, Handler> handlers;

 private:
  void AddSync(uint16_t id, const char* name, MakeMessage request, MakeMessage reply, SyncBody body) override {
    handlers[id] = {name, request, reply, std::move(body), {}};
  }
  void AddAsync(uint16_t id, const char* name, MakeMessage request, MakeMessage reply, AsyncBody body) override {
    handlers[id] = {name, request, reply, {}, std::move(body)};
  }
  boost::asio::io_context io_;
};

class MetaAccess : public ::testing::Test {
 protected:
  MetaAccess() { RegisterOps(env_, server_); }

  static Identity Of(Role role, const std::string& tenant = "", const std::string& name = "",
                     const std::string& subject = "CN=test") {
    return {.role = role, .tenant = tenant, .name = name, .subject = subject};
  }
  template <typename Method>
  Code CodeOf(const Method& method, const Identity& caller, const typename Method::Request& request) {
    typename Method::Reply reply;
    return server_.Call(method, caller, request, &reply).code();
  }
  uint64_t OpenSession(const Identity& caller, const std::string& tenant = "") {
    proto::OpenSessionRequest request;
    request.set_tenant(tenant);
    proto::OpenSessionReply reply;
    const Status opened = server_.Call(proto::kOpenSession, caller, request, &reply);
    EXPECT_TRUE(opened.ok()) << opened.ToString();
    return reply.session();
  }
  proto::JoinRequest Joining(const std::string& name) {
    proto::JoinRequest request;
    request.set_name(name);
    request.set_incarnation(1);
    auto* segment = request.add_segments();
    segment->set_id(1);
    segment->set_epoch(1);
    segment->set_size(4_MiB);
    return request;
  }
  uint32_t Join(const std::string& name) {
    proto::JoinReply reply;
    const Status joined = server_.Call(proto::kJoin, Of(Role::kLocal, "", name), Joining(name), &reply);
    EXPECT_TRUE(joined.ok()) << joined.ToString();
    return reply.node();
  }
  // Puts one key of the caller's tenant.
  void Put(const Identity& caller, uint64_t session, const std::string& key, const std::string& tenant = "") {
    proto::PutStartRequest start;
    start.set_session(session);
    start.set_tenant(tenant);
    proto::AppendKey(key, start.mutable_keys());
    start.add_sizes(4096);
    proto::PutStartReply started;
    const Status status = server_.Call(proto::kPutStart, caller, start, &started);
    ASSERT_TRUE(status.ok()) << status.ToString();
    proto::PutCommitRequest commit;
    commit.set_session(session);
    *commit.mutable_grant() = started.grant();
    proto::PutCommitReply committed;
    ASSERT_TRUE(server_.Call(proto::kPutCommit, caller, commit, &committed).ok());
    ASSERT_EQ(committed.status(0), 0u);
  }
  bool Sees(const Identity& caller, const std::string& key, const std::string& tenant = "") {
    proto::ExistsRequest request;
    request.set_tenant(tenant);
    proto::AppendKey(key, request.mutable_keys());
    proto::ExistsReply reply;
    EXPECT_TRUE(server_.Call(proto::kExists, caller, request, &reply).ok());
    return reply.present() == std::string(1, '\1');
  }

  MetaOptions options_;
  Waiters waiters_;
  MetaState state_{StateOptions{}};
  Mover mover_{state_, {}};
  Scrubs scrubs_{mover_, 1};
  OpEnv env_{state_, waiters_, mover_, scrubs_, options_, options_.access, Clock::Real()};
  Handlers server_;
};

TEST_F(MetaAccess, EveryMethodForEveryRole) {
  std::set<std::string> seen;
  for (const auto& [id, handler] : server_.handlers) {
    const auto expected = Expected().find(handler.name);
    ASSERT_NE(expected, Expected().end()) << handler.name << " has no entry in this test: who may call it?";
    seen.insert(handler.name);
    EXPECT_TRUE(options_.access.Knows(id));
    for (const Role role : {Role::kNone, Role::kMeta, Role::kLocal, Role::kClient, Role::kAdmin}) {
      // One without a role, but with a certificate, may do nothing.
      const auto request = handler.make_request(), reply = handler.make_reply();
      const Status status = server_.CallRaw(handler, Of(role), *request, reply.get());
      const bool refused =
          status.code() == Code::kPermission && status.message().find("may not call") != std::string::npos;
      EXPECT_EQ(refused, expected->second.count(role) == 0)
          << handler.name << " as " << security::RoleName(role) << ": " << status.ToString();
    }
    const auto request = handler.make_request(), reply = handler.make_reply();
    const Status plain = server_.CallRaw(handler, *security::NoIdentity(), *request, reply.get());
    EXPECT_NE(plain.code(), Code::kPermission) << handler.name << " without TLS";
  }
  EXPECT_EQ(seen.size(), Expected().size()) << "a method of this test is not registered";
}

TEST_F(MetaAccess, TheRefusalSaysWhoMayAndWhereToChangeIt) {
  proto::DrainRequest request;
  proto::Empty reply;
  const Status status = server_.Call(proto::kDrain, Of(Role::kClient, "a", "", "CN=app"), request, &reply);
  for (const char* part : {"CN=app", "'client'", "Drain", "allowed: admin", "ock.mmc.meta.access.client"})
    EXPECT_NE(status.message().find(part), std::string::npos) << part << " in " << status.ToString();
}

TEST_F(MetaAccess, ANodeSpeaksForItselfOnly) {
  const uint32_t mine = Join("mine"), other = Join("other");
  const Identity caller = Of(Role::kLocal, "", "mine");
  EXPECT_EQ(CodeOf(proto::kJoin, caller, Joining("other")), Code::kPermission);
  EXPECT_EQ(CodeOf(proto::kJoin, Of(Role::kLocal), Joining("mine")), Code::kPermission) << "no mmc:node at all";
  const auto about = [](auto request, uint32_t node) {
    request.set_node(node);
    request.set_incarnation(1);
    return request;
  };
  const auto codes = [&](uint32_t node) {
    return std::vector<Code>{CodeOf(proto::kNodeHeartbeat, caller, about(proto::NodeHeartbeatRequest(), node)),
                             CodeOf(proto::kCatalogSync, caller, about(proto::CatalogSyncRequest(), node)),
                             CodeOf(proto::kCatalogReport, caller, about(proto::CatalogReportRequest(), node)),
                             CodeOf(proto::kNodeLeave, caller, about(proto::NodeLeaveRequest(), node))};
  };
  EXPECT_EQ(codes(other), std::vector<Code>(4, Code::kPermission));
  EXPECT_EQ(codes(mine), std::vector<Code>(4, Code::kOk));
  EXPECT_EQ(codes(12345), std::vector<Code>(4, Code::kStaleNode)) << "unknown nodes are unknown, not forbidden";
}

TEST_F(MetaAccess, ASessionIsItsOpenersOnly) {
  Join("n");
  const Identity owner = Of(Role::kClient, "a", "", "CN=owner"), thief = Of(Role::kClient, "a", "", "CN=thief"),
                 admin = Of(Role::kAdmin, "", "", "CN=owner");
  const uint64_t session = OpenSession(owner);
  const auto with = [session](auto request) {
    request.set_session(session);
    return request;
  };
  for (const Identity& caller : {thief, admin}) {
    EXPECT_EQ(CodeOf(proto::kSessionHeartbeat, caller, with(proto::SessionHeartbeatRequest())), Code::kPermission);
    EXPECT_EQ(CodeOf(proto::kCloseSession, caller, with(proto::CloseSessionRequest())), Code::kPermission);
    EXPECT_EQ(CodeOf(proto::kPutStart, caller, with(proto::PutStartRequest())), Code::kPermission);
    EXPECT_EQ(CodeOf(proto::kPutCommit, caller, with(proto::PutCommitRequest())), Code::kPermission);
    EXPECT_EQ(CodeOf(proto::kPutAbort, caller, with(proto::PutAbortRequest())), Code::kPermission);
    EXPECT_EQ(CodeOf(proto::kLookup, caller, with(proto::LookupRequest())), Code::kPermission);
    EXPECT_EQ(CodeOf(proto::kUnpin, caller, with(proto::UnpinRequest())), Code::kPermission);
    EXPECT_EQ(CodeOf(proto::kReportReplica, caller, with(proto::ReportReplicaRequest())), Code::kPermission);
  }
  EXPECT_EQ(CodeOf(proto::kSessionHeartbeat, owner, with(proto::SessionHeartbeatRequest())), Code::kOk);
  EXPECT_EQ(CodeOf(proto::kCloseSession, owner, with(proto::CloseSessionRequest())), Code::kOk);
  EXPECT_EQ(CodeOf(proto::kCloseSession, thief, with(proto::CloseSessionRequest())), Code::kSessionLost);
}

TEST_F(MetaAccess, ACertificatesTenantIsTheOnlyOneItMayName) {
  Join("n");
  const Identity a = Of(Role::kClient, "a"), none = Of(Role::kClient), admin = Of(Role::kAdmin);
  Put(a, OpenSession(a), "k");  // names none: its own
  EXPECT_TRUE(Sees(a, "k"));
  EXPECT_TRUE(Sees(a, "k", "a"));
  EXPECT_FALSE(Sees(none, "k"));
  EXPECT_FALSE(Sees(admin, "k"));
  EXPECT_TRUE(Sees(admin, "k", "a")) << "an admin of no tenant may look after all";
  for (const char* wrong : {"b", "default"}) {
    proto::ListRequest list;
    list.set_tenant(wrong);
    EXPECT_EQ(CodeOf(proto::kList, a, list), Code::kPermission) << wrong;
    proto::OpenSessionRequest open;
    open.set_tenant(wrong);
    EXPECT_EQ(CodeOf(proto::kOpenSession, a, open), Code::kPermission);
    proto::RemoveByPrefixRequest remove;
    remove.set_tenant(wrong);
    remove.set_prefix("k");
    EXPECT_EQ(CodeOf(proto::kRemoveByPrefix, a, remove), Code::kPermission);
  }
  proto::RemoveAllRequest all;
  all.set_tenant("a");
  EXPECT_EQ(CodeOf(proto::kRemoveAll, Of(Role::kAdmin, "b"), all), Code::kPermission) << "an admin of b";
  EXPECT_EQ(CodeOf(proto::kStat, none, [] {
    proto::StatRequest stat;
    stat.set_tenant("a");
    return stat;
  }()), Code::kPermission);
  EXPECT_EQ(CodeOf(proto::kRemoveAll, admin, proto::RemoveAllRequest()), Code::kOk);
  EXPECT_TRUE(Sees(a, "k")) << "all of the default tenant is gone, and nothing else";
  EXPECT_EQ(CodeOf(proto::kRemoveAll, admin, all), Code::kOk);
  EXPECT_FALSE(Sees(a, "k"));
}

TEST_F(MetaAccess, OnlyAnAdminSeesWhatOthersHold) {
  Join("n");
  OpenSession(Of(Role::kClient, "a"));
  OpenSession(Of(Role::kClient, "b"));
  const auto names = [this](const Identity& caller) {
    proto::ClusterStatusReply reply;
    EXPECT_TRUE(server_.Call(proto::kClusterStatus, caller, proto::ClusterStatusRequest(), &reply).ok());
    std::set<std::string> out;
    for (const auto& tenant : reply.tenants()) out.insert(tenant.name());
    return out;
  };
  EXPECT_EQ(names(Of(Role::kClient, "a")), (std::set<std::string>{"a"}));
  EXPECT_EQ(names(Of(Role::kClient)), (std::set<std::string>{"default"}));
  EXPECT_EQ(names(Of(Role::kAdmin)), (std::set<std::string>{"a", "b", "default"}));
  EXPECT_EQ(names(Of(Role::kAdmin, "b")), (std::set<std::string>{"b"}));
  EXPECT_EQ(names(Of(Role::kLocal, "", "n")), std::set<std::string>());
  EXPECT_EQ(names(*security::NoIdentity()), (std::set<std::string>{"a", "b", "default"}));
}

TEST_F(MetaAccess, WhoMayNotPutIsToldOfMemoryToRead) {
  proto::JoinRequest request = Joining("n");
  request.add_endpoints()->set_transport("shm");
  request.mutable_endpoints(0)->set_address("/run/mmc/n.sock#1234abcd");
  request.add_endpoints()->set_transport("tcp");
  request.mutable_endpoints(1)->set_address("127.0.0.1:7000");
  proto::JoinReply joined;
  ASSERT_TRUE(server_.Call(proto::kJoin, Of(Role::kLocal, "", "n"), request, &joined).ok());
  ASSERT_TRUE(options_.access.Set(Role::kClient, "Directory, ClusterStatus, Lookup").ok());
  const auto told = [&](const Identity& caller) {
    proto::DirectoryReply directory;
    EXPECT_TRUE(server_.Call(proto::kDirectory, caller, proto::DirectoryRequest(), &directory).ok());
    proto::ClusterStatusReply status;
    EXPECT_TRUE(server_.Call(proto::kClusterStatus, caller, proto::ClusterStatusRequest(), &status).ok());
    EXPECT_EQ(directory.nodes(0).endpoints(1).address(), "127.0.0.1:7000");
    EXPECT_EQ(status.nodes(0).endpoints(0).address(), directory.nodes(0).endpoints(0).address());
    return directory.nodes(0).endpoints(0).address();
  };
  const std::string whole = "/run/mmc/n.sock#1234abcd";
  EXPECT_EQ(told(Of(Role::kAdmin)), whole);
  EXPECT_EQ(told(*security::NoIdentity()), whole);
  for (const Role role : {Role::kClient, Role::kLocal, Role::kMeta}) {
    const std::string address = told(Of(role, "", "n"));
    EXPECT_TRUE(address.starts_with("/run/mmc/n.sock#r")) << address;
    EXPECT_EQ(address.find("1234abcd"), std::string::npos) << "from it the other one cannot be had";
  }
}

TEST(AccessTable, ARoleCanHaveThoseOfAnother) {
  const auto values =
      MetaSchema().Parse("ock.mmc.meta.access.local = @local, @client\nock.mmc.meta.access.client = Exists\n", "test",
                         {});
  ASSERT_TRUE(values.ok()) << values.status().ToString();
  const AccessTable table = MetaOptionsFrom(*values).access;
  const AccessTable defaults;
  for (uint16_t method = 0; method < 64; ++method) {
    EXPECT_EQ(table.Allows(Role::kLocal, method),
              defaults.Allows(Role::kLocal, method) || defaults.Allows(Role::kClient, method)) << method;
  }
  const auto wrong = MetaSchema().Parse("ock.mmc.meta.access.local = @nobody\n", "test", {});
  EXPECT_EQ(wrong.status().code(), Code::kConfig);
}

TEST(AccessTable, AConfFileGivesARoleAnotherList) {
  const auto values = MetaSchema().Parse("ock.mmc.meta.access.client = Exists, Lookup\n", "test", {});
  ASSERT_TRUE(values.ok()) << values.status().ToString();
  const AccessTable table = MetaOptionsFrom(*values).access;
  EXPECT_TRUE(table.Allows(Role::kClient, proto::kLookup.id));
  EXPECT_FALSE(table.Allows(Role::kClient, proto::kPutStart.id));
  EXPECT_TRUE(table.Allows(Role::kAdmin, proto::kPutStart.id)) << "others keep theirs";
  EXPECT_EQ(table.MethodsOf(Role::kClient), "Lookup, Exists");

  const auto nobody = MetaSchema().Parse("ock.mmc.meta.access.meta =\n", "test", {});
  ASSERT_TRUE(nobody.ok()) << nobody.status().ToString();
  EXPECT_EQ(MetaOptionsFrom(*nobody).access.MethodsOf(Role::kMeta), "");

  const auto wrong = MetaSchema().Parse("ock.mmc.meta.access.client = Lookup, Evrything\n", "test", {});
  EXPECT_EQ(wrong.status().code(), Code::kConfig);
  EXPECT_NE(wrong.status().message().find("'Evrything' is no method"), std::string::npos) << wrong.status().ToString();
  const AccessTable defaults;
  const AccessTable unset = MetaOptionsFrom(*MetaSchema().Load("", {})).access;
  EXPECT_EQ(unset.MethodsOf(Role::kClient), defaults.MethodsOf(Role::kClient));
}

}  // namespace
}  // namespace mmc::meta
