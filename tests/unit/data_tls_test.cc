// Goal: a pool whose values travel under TLS does all that another one does, and only for those who may.
// Method: a meta service, local services and clients in this process, without shared memory; certificates of
// scripts/make_certs.
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/limits.h"
#include "common/config/local_conf.h"
#include "local_service/copier.h"
#include "tests/contract/certificates.h"
#include "tests/unit/client_cluster.h"

namespace mmc::test {
namespace {

using fabric::contract::Certificates;
using testing::HasSubstr;

ClusterOptions SecuredNodes(int nodes, const std::function<void(local::LocalOptions*)>& more = nullptr) {
  ClusterOptions options;
  options.nodes = nodes;
  options.dram_bytes = 16_MiB;
  options.tune_node = [more](local::LocalOptions* node) {
    node->shm_enable = false;
    node->data_tls = Certificates::Shared().OptionsOf("local");
    node->name = "node-a";  // as the certificate says
    if (more != nullptr) more(node);
  };
  return options;
}

ClientOptions As(const Cluster& cluster, const std::string& name) {
  ClientOptions options = cluster.Options();
  options.timeout = std::chrono::seconds(30);
  options.data_tls = Certificates::Shared().OptionsOf(name);
  return options;
}

TEST(DataTls, ValuesTravelUnderTls) {
  Cluster cluster(SecuredNodes(1));
  const auto client = cluster.Connect(As(cluster, "client"));
  ASSERT_NE(client, nullptr);
  const std::string value = Pattern(3'000'017, 1);
  ASSERT_TRUE(PutOne(*client, "k", value).ok());
  const auto got = GetOne(*client, "k");
  ASSERT_TRUE(got.ok()) << got.status().ToString();
  EXPECT_EQ(*got, value);
  EXPECT_EQ(client->stats().tcp_bytes, 2 * value.size());
}

TEST(DataTls, WhoHasNoCertificateReadsAndWritesNothingAndIsToldWhy) {
  Cluster cluster(SecuredNodes(1));
  const auto admin = cluster.Connect(As(cluster, "admin"));
  ASSERT_TRUE(PutOne(*admin, "k", Pattern(4096, 1)).ok());
  ClientOptions plain = cluster.Options();
  plain.timeout = std::chrono::seconds(2);
  const auto stranger = cluster.Connect(plain);
  ASSERT_NE(stranger, nullptr);
  const Status put = PutOne(*stranger, "other", "value");
  EXPECT_FALSE(put.ok());
  EXPECT_THAT(put.message(), HasSubstr("hcom.tls.enable"));
  const auto got = GetOne(*stranger, "k");
  EXPECT_FALSE(got.ok());
  EXPECT_THAT(got.status().message(), HasSubstr("hcom.tls.enable"));
  ClientOptions revoked = As(cluster, "revoked");
  revoked.timeout = std::chrono::seconds(2);
  const auto ended = cluster.Connect(revoked);
  EXPECT_THAT(GetOne(*ended, "k").status().message(), HasSubstr("revoked"));
  EXPECT_TRUE(GetOne(*admin, "k").ok());
}

TEST(DataTls, ARoleThatMayReadReads) {
  Cluster cluster(SecuredNodes(1, [](local::LocalOptions* node) { node->client_access = local::DataAccess::kRead; }));
  const auto admin = cluster.Connect(As(cluster, "admin"));
  const std::string value = Pattern(100'000, 2);
  ASSERT_TRUE(PutOne(*admin, "k", value).ok());
  ClientOptions reading = As(cluster, "client");
  const auto client = cluster.Connect(reading);
  const auto got = GetOne(*client, "k");
  ASSERT_TRUE(got.ok()) << got.status().ToString();
  EXPECT_EQ(*got, value);
  EXPECT_EQ(PutOne(*client, "mine", value).code(), Code::kPermission);
}

TEST(DataTls, ANodeOfAnotherNameThanItsCertificateDoesNotStart) {
  Cluster cluster(SecuredNodes(0));
  local::LocalOptions options;
  options.meta_url = cluster.url();
  options.name = "node-b";
  options.dram_bytes = 2_MiB;
  options.shm_enable = false;
  options.data_url = "tcp://127.0.0.1:0";
  options.data_tls = Certificates::Shared().OptionsOf("local");
  auto node = local::LocalService::Create(options, cluster.RawChannel());
  ASSERT_TRUE(node.ok()) << node.status().ToString();
  const Status status = (*node)->Start();
  EXPECT_EQ(status.code(), Code::kConfig);
  EXPECT_THAT(status.message(), HasSubstr("speaks for node 'node-a', and this node is 'node-b'"));
  options.data_tls = Certificates::Shared().OptionsOf("client");
  const auto client = local::LocalService::Create(options, cluster.RawChannel());
  EXPECT_EQ(client.code(), Code::kConfig);
  EXPECT_THAT(client.status().message(), HasSubstr("role"));
}

TEST(DataTls, NodesCopyFromEachOtherUnderTls) {
  std::string source(1 << 20, '\0');
  std::string destination(1 << 20, '\0');
  const std::string value = Pattern(500'000, 3);
  source.replace(4096, value.size(), value);
  const auto lend = [](std::string* memory, fabric::RegionTable* regions) {
    fabric::Region region;
    region.ref = {.segment = 1, .epoch = 5};
    region.memory = {reinterpret_cast<std::byte*>(memory->data()), memory->size()};
    ASSERT_TRUE(regions->Add(std::move(region)).ok());
  };
  fabric::RegionTable from;
  fabric::RegionTable to;
  lend(&source, &from);
  lend(&destination, &to);
  const auto tls = Certificates::Shared().ContextOf("local");
  fabric::ListenOptions listen;
  listen.address = "127.0.0.1:0";
  listen.tls = tls;
  auto listener = fabric::FindTransport("tcp")->Listen(listen, from);
  ASSERT_TRUE(listener.ok()) << listener.status().ToString();
  Mutex mutex;
  CondVar changed;
  local::Copier copier(to, {.host_id = "here", .tls = tls}, [&] {
    MutexLock lock(mutex);
    changed.NotifyAll();
  });
  proto::CopyCommand command;
  command.set_source_host_id("there");
  auto* endpoint = command.add_source_endpoints();
  endpoint->set_transport("tcp");
  endpoint->set_address((*listener)->endpoint().address);
  command.set_source_segment(1);
  command.set_source_epoch(5);
  command.add_source_offset(4096);
  command.add_source_length(value.size());
  command.set_segment(1);
  command.add_offset(8192);
  command.add_length(value.size());
  command.set_size(value.size());
  const auto copy_from = [&](uint64_t id, const std::string& node) {
    command.set_id(id);
    command.set_source_name(node);
    copier.Submit(command);
    MutexLock lock(mutex);
    for (;;) {
      proto::CatalogSyncRequest request;
      copier.Report(&request);
      for (const auto& result : request.copy_results()) {
        if (result.id() == id) return CodeFromWire(result.status());
      }
      if (!changed.WaitUntil(mutex, In(std::chrono::seconds(60)))) return Code::kDeadline;
    }
  };
  EXPECT_EQ(copy_from(1, "node-b"), Code::kPermission) << "it is not the node that was meant";
  EXPECT_EQ(copy_from(2, "node-a"), Code::kOk);
  EXPECT_EQ(destination.substr(8192, value.size()), value);
}

TEST(DataTls, TheFilesAreThoseOfTheControlPlaneUnlessItsOwnAreNamed) {
  const auto parse = [](const std::string& text) {
    auto values = config::LocalConf().Parse(text, "test.conf", {});
    EXPECT_TRUE(values.ok()) << values.status().ToString();
    return security::DataTlsOptionsFrom(*values);
  };
  const std::string control =
      "ock.mmc.tls.ca.path = /c/ca\nock.mmc.tls.cert.path = /c/cert\nock.mmc.tls.key.path = /c/key\n"
      "ock.mmc.tls.ca.crl.path = /c/crl\n";
  EXPECT_FALSE(parse(control).enable);
  const std::string on = "ock.mmc.local_service.hcom.tls.enable = true\n";
  const auto shared = parse(control + on);
  EXPECT_TRUE(shared.enable);
  EXPECT_EQ(shared.ca_path, "/c/ca");
  EXPECT_EQ(shared.cert_path, "/c/cert");
  EXPECT_EQ(shared.key_path, "/c/key");
  EXPECT_EQ(shared.crl_path, "/c/crl");
  const auto own = parse(control + on + "ock.mmc.local_service.hcom.tls.cert.path = /d/cert\n");
  EXPECT_EQ(own.cert_path, "/d/cert");
  EXPECT_EQ(own.ca_path, "") << "one set or the other, not a mixture";
  EXPECT_EQ(own.crl_path, "");
}

TEST(SharedMemoryFolder, OneThatOthersCanWriteIsRefused) {
  TempDir directory;
  ClusterOptions none;
  none.nodes = 0;
  Cluster cluster(none);
  const auto start = [&](mode_t mode, const std::string& group) {
    const std::string folder = directory.File("sockets");
    EXPECT_TRUE(::mkdir(folder.c_str(), 0700) == 0 || errno == EEXIST);
    EXPECT_EQ(::chmod(folder.c_str(), mode), 0);
    local::LocalOptions options;
    options.meta_url = cluster.url();
    options.name = "node-a";
    options.dram_bytes = 2_MiB;
    options.prefault = false;
    options.data_url = "tcp://127.0.0.1:0";
    options.shm_directory = folder;
    options.shm_group = group;
    options.catalog_directory = directory.path();
    auto node = local::LocalService::Create(options, cluster.RawChannel());
    EXPECT_TRUE(node.ok());
    return (*node)->Start();
  };
  EXPECT_TRUE(start(0700, "").ok());
  EXPECT_TRUE(start(0755, "").ok());
  EXPECT_TRUE(start(01777, "").ok());
  EXPECT_EQ(start(0777, "").code(), Code::kPermission);
  EXPECT_EQ(start(0770, "").code(), Code::kPermission);
  EXPECT_EQ(start(0700, "no-such-group").code(), Code::kConfig);
  if (::geteuid() != 0) return;
  const Status closed = start(0700, "nogroup");
  EXPECT_EQ(closed.code(), Code::kConfig);
  EXPECT_THAT(closed.message(), HasSubstr("chgrp"));
  EXPECT_TRUE(start(0711, "nogroup").ok());
}

}  // namespace
}  // namespace mmc::test
