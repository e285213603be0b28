// Pools inside the process, and clients that lend memory.
#include <gmock/gmock.h>

#include "client_sdk/embedded/embedded.h"
#include "tests/unit/client_cluster.h"

namespace mmc::test {
namespace {

TEST(EmbeddedUrl, Parameters) {
  EXPECT_EQ(ParseEmbeddedUrl("local://")->dram_bytes, 1_GiB);
  const auto all = ParseEmbeddedUrl("local://?dram=2.5MB&name=n&transport=loopback&prefault=1");
  ASSERT_TRUE(all.ok()) << all.status().ToString();
  EXPECT_EQ(all->dram_bytes, 4_MiB);  // up to 2 MiB
  EXPECT_EQ(all->name, "n");
  EXPECT_EQ(all->transport, "loopback");
  EXPECT_TRUE(all->prefault);
  for (const char* wrong :
       {"local:", "tcp://x", "local://host?dram=1GB", "local://?dram=", "local://?dram=0",
        "local://?dram=lots", "local://?dram=2TB", "local://?name=", "local://?colour=red",
        "local://?transport=rdma", "local://?prefault=maybe"}) {
    EXPECT_EQ(ParseEmbeddedUrl(wrong).code(), Code::kInvalidArgument) << wrong;
  }
  EXPECT_THAT(ParseEmbeddedUrl("local://?colour=red").status().message(),
              testing::HasSubstr("dram=<size>"));
}

class Embedded : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Transports, Embedded, testing::Values("shm", "loopback"),
                         [](const auto& p) { return std::string(p.param); });

TEST_P(Embedded, APoolInThisProcess) {
  ClientOptions options;
  options.meta_url = std::string("local://?dram=64MB&transport=") + GetParam();
  auto connected = Client::Connect(options);
  ASSERT_TRUE(connected.ok()) << connected.status().ToString();
  Client& client = **connected;
  const std::string value = Pattern(5'000'000, 1);
  ASSERT_EQ(PutOne(client, "k", value), Status::Ok());
  EXPECT_TRUE(GetOne(client, "k").value_or("") == value);
  // It evicts like any other pool.
  for (int i = 0; i < 30; ++i) {
    ASSERT_EQ(PutOne(client, "n" + std::to_string(i), Pattern(4'000'000, i)), Status::Ok()) << i;
  }
  const auto status = client.Cluster();
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(status->nodes.size(), 1U);
  EXPECT_EQ(status->capacity_bytes, 64_MiB);
  EXPECT_GT(status->evicted_objects, 0U);
  client.Close();
  EXPECT_EQ(PutOne(client, "late", "v").code(), Code::kClosed);
}

TEST(EmbeddedPools, AreApart) {
  ClientOptions options;
  options.meta_url = "local://?dram=4MB";
  auto a = Client::Connect(options);
  auto b = Client::Connect(options);
  ASSERT_TRUE(a.ok() && b.ok());
  ASSERT_EQ(PutOne(**a, "k", "of a"), Status::Ok());
  EXPECT_EQ(GetOne(**b, "k").code(), Code::kNotFound);
}

TEST(EmbeddedPools, AViewOutlivesThem) {
  ClientOptions options;
  options.meta_url = "local://?dram=4MB";
  auto client = Client::Connect(options);
  ASSERT_TRUE(client.ok()) << client.status().ToString();
  ASSERT_EQ(PutOne(**client, "k", "value"), Status::Ok());
  auto view = (*client)->MakeView("k");
  ASSERT_TRUE(view.ok()) << view.status().ToString();
  client->reset();
  const ConstBuffer piece = view->pieces().front();
  EXPECT_EQ(std::string(static_cast<const char*>(piece.data), piece.size), "value");
}

TEST(Contributing, AClientLendsMemoryToItsPool) {
  Cluster cluster({.nodes = 0, .dram_bytes = 64_MiB, .meta = {}});
  auto other = cluster.Connect();
  TempDir directory;
  local::LocalOptions lend;
  lend.name = "lender";
  lend.dram_bytes = 32_MiB;
  lend.prefault = false;
  lend.data_url = "tcp://127.0.0.1:0";
  lend.data_url_set = true;
  lend.shm_directory = directory.path();
  lend.catalog_directory = directory.path();
  auto contributing = ContributingClient::Connect(cluster.Options(), lend);
  ASSERT_TRUE(contributing.ok()) << contributing.status().ToString();
  EXPECT_EQ((*contributing)->node_name(), "lender");
  ASSERT_EQ(PutOne((*contributing)->client(), "k", "value"), Status::Ok());
  EXPECT_EQ(GetOne(*other, "k").value_or(""), "value");
  (*contributing)->Close();
  EXPECT_EQ(GetOne(*other, "k").code(), Code::kNotFound);
}

}  // namespace
}  // namespace mmc::test
