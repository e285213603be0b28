// The two conf files of the product: what the keys become, and that what is checked in is what the
// tables print.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "common/base/bytes.h"
#include "common/config/local_conf.h"
#include "local_service/options.h"
#include "meta_service/options.h"
#include "tests/unit/temp_dir.h"

namespace mmc {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

std::string Source(const std::string& path) { return std::string(MMC_SOURCE_DIR "/") + path; }

Result<config::Values> ParseMeta(std::string_view text) {
  return meta::MetaSchema().Parse(text, "m.conf", {});
}
Result<config::Values> ParseLocal(std::string_view text) {
  return local::LocalSchema().Parse(text, "l.conf", {});
}

meta::MetaOptions Meta(std::string_view text) {
  const Result<config::Values> values = ParseMeta(text);
  EXPECT_TRUE(values.ok()) << values.status().ToString();
  return values.ok() ? meta::MetaOptionsFrom(*values) : meta::MetaOptions();
}

local::LocalOptions Local(std::string_view text) {
  const Result<config::Values> values = ParseLocal(text);
  EXPECT_TRUE(values.ok()) << values.status().ToString();
  return values.ok() ? local::LocalOptionsFrom(*values) : local::LocalOptions();
}

TEST(PublishedConf, OfTheMetaServiceLoadsAsItStands) {
  const Result<config::Values> values =
      meta::MetaSchema().Load(Source("tests/data/seed_meta.conf"), {});
  ASSERT_TRUE(values.ok()) << values.status().ToString();
  EXPECT_THAT(values->warnings(), IsEmpty());
  const meta::MetaOptions options = meta::MetaOptionsFrom(*values);
  EXPECT_EQ(options.url, "tcp://127.0.0.1:5000");
  EXPECT_EQ(options.evict_threshold_high, 70u);
  EXPECT_EQ(options.evict_threshold_low, 60u);
  EXPECT_EQ(values->GetString("ock.mmc.log_level"), "debug");
  EXPECT_EQ(values->GetString("ock.mmc.log_path"), ".");
}

TEST(PublishedConf, OfTheLocalServiceLoadsAsItStands) {
  const Result<config::Values> values =
      local::LocalSchema().Load(Source("tests/data/seed_local.conf"), {});
  ASSERT_TRUE(values.ok()) << values.status().ToString();
  std::string warnings;
  for (const config::Warning& warning : values->warnings()) warnings += warning.text + "\n";
  EXPECT_THAT(warnings,
              HasSubstr("ock.mmc.local_service.world_size = 16 is accepted, without effect"));
  EXPECT_THAT(warnings,
              HasSubstr("ock.mmc.local_service.dram_by_sdma = true is accepted, without effect"));
  EXPECT_EQ(values->warnings().size(), 2u) << warnings;
  const local::LocalOptions options = local::LocalOptionsFrom(*values);
  EXPECT_EQ(options.dram_bytes, 1_GiB);
  EXPECT_EQ(options.hbm_bytes, 0u);
  EXPECT_EQ(options.protocol, "device_sdma");
  EXPECT_EQ(options.transport, "device");
  EXPECT_TRUE(local::ValidateLocalOptions(options).ok());
  const config::ClientSettings client = config::ClientSettingsFrom(*values);
  EXPECT_EQ(client.timeout, std::chrono::seconds(60));
  EXPECT_EQ(client.connect_retry, std::chrono::milliseconds(0));
}

TEST(MetaConf, DefaultsAreThoseOfTheStruct) {
  const meta::MetaOptions options = Meta("");
  const meta::MetaOptions plain;
  EXPECT_EQ(options.url, plain.url);
  EXPECT_EQ(options.metrics_url, plain.metrics_url);
  EXPECT_EQ(options.evict_threshold_high, plain.evict_threshold_high);
  EXPECT_EQ(options.evict_threshold_low, plain.evict_threshold_low);
  EXPECT_EQ(options.evict_policy, plain.evict_policy);
  EXPECT_EQ(options.lease, plain.lease);
  EXPECT_EQ(options.max_lease, plain.max_lease);
  EXPECT_EQ(options.soft_pin, plain.soft_pin);
  EXPECT_EQ(options.max_soft_pin, plain.max_soft_pin);
  EXPECT_EQ(options.grant, plain.grant);
  EXPECT_EQ(options.heartbeat, plain.heartbeat);
  EXPECT_EQ(options.session_expiry, plain.session_expiry);
  EXPECT_EQ(options.node_suspect, plain.node_suspect);
  EXPECT_EQ(options.node_grace, plain.node_grace);
  EXPECT_EQ(options.max_sessions, plain.max_sessions);
  EXPECT_EQ(options.max_connections, plain.max_connections);
  EXPECT_EQ(options.drain, plain.drain);
  EXPECT_EQ(options.state_path, plain.state_path);
  EXPECT_EQ(options.commit_durable, plain.commit_durable);
  EXPECT_EQ(options.recovery, std::chrono::seconds(3));  // a pool in one process has nothing to recover
  EXPECT_GE(options.io_threads, 1);
  EXPECT_LE(options.io_threads, 4);
}

TEST(MetaConf, EachKeyArrives) {
  const meta::MetaOptions options = Meta(
      "ock.mmc.meta_service_url = tcp://[::1]:5001\nock.mmc.meta_service.metrics_url =\n"
      "ock.mmc.evict_threshold_high = 50\nock.mmc.evict_threshold_low = "
      "40\nock.mmc.meta.io_threads = 7\n"
      "ock.mmc.meta.lease_milliseconds = 11\nock.mmc.meta.max_lease_milliseconds = 12\n"
      "ock.mmc.meta.soft_pin_milliseconds = 13\nock.mmc.meta.max_soft_pin_milliseconds = 14\n"
      "ock.mmc.meta.evict_soft_pinned = false\n"
      "ock.mmc.meta.grant_milliseconds = 1300\nock.mmc.meta.heartbeat_milliseconds = 14\n"
      "ock.mmc.meta.session_expiry_milliseconds = 150\nock.mmc.meta.node_suspect_milliseconds = "
      "160\n"
      "ock.mmc.meta.node_grace_milliseconds = 170\nock.mmc.meta.max_sessions = 18\n"
      "ock.mmc.meta.max_connections = 19\nock.mmc.meta.drain_milliseconds = 20\n"
      "ock.mmc.meta.recovery_milliseconds = 21\nock.mmc.meta.state_path = /var/lib/x\n"
      "ock.mmc.meta.commit_mode = sync\n");
  EXPECT_EQ(options.url, "tcp://[::1]:5001");
  EXPECT_EQ(options.metrics_url, "");
  EXPECT_EQ(options.evict_threshold_high, 50u);
  EXPECT_EQ(options.evict_threshold_low, 40u);
  EXPECT_EQ(options.io_threads, 7);
  EXPECT_EQ(options.lease.count(), 11);
  EXPECT_EQ(options.max_lease.count(), 12);
  EXPECT_EQ(options.soft_pin.count(), 13);
  EXPECT_EQ(options.max_soft_pin.count(), 14);
  EXPECT_FALSE(options.evict_soft_pinned);
  EXPECT_EQ(options.grant.count(), 1300);
  EXPECT_EQ(options.heartbeat.count(), 14);
  EXPECT_EQ(options.session_expiry.count(), 150);
  EXPECT_EQ(options.node_suspect.count(), 160);
  EXPECT_EQ(options.node_grace.count(), 170);
  EXPECT_EQ(options.max_sessions, 18u);
  EXPECT_EQ(options.max_connections, 19u);
  EXPECT_EQ(options.drain.count(), 20);
  EXPECT_EQ(options.recovery.count(), 21);
  EXPECT_EQ(options.state_path, "/var/lib/x");
  EXPECT_TRUE(options.commit_durable);
}

TEST(MetaConf, ValuesThatContradictEachOther) {
  EXPECT_EQ(
      ParseMeta("ock.mmc.evict_threshold_high = 70\nock.mmc.evict_threshold_low = 70")
          .status()
          .message(),
      "m.conf: ock.mmc.evict_threshold_high = 70 must be above ock.mmc.evict_threshold_low = 70");
  EXPECT_EQ(ParseMeta("ock.mmc.meta.node_suspect_milliseconds = 40000").status().message(),
            "m.conf: ock.mmc.meta.node_suspect_milliseconds = 40000 must be below "
            "ock.mmc.meta.node_grace_milliseconds = 30000");
  EXPECT_EQ(ParseMeta("ock.mmc.meta.lease_milliseconds = 700000").status().message(),
            "m.conf: ock.mmc.meta.lease_milliseconds = 700000 must not be above "
            "ock.mmc.meta.max_lease_milliseconds = 600000");
  EXPECT_EQ(ParseMeta("ock.mmc.meta.heartbeat_milliseconds = 3000").code(), Code::kConfig);
}

TEST(MetaConf, WhatThisVersionHasNotIsRefusedRatherThanIgnored) {
  EXPECT_THAT(ParseMeta("ock.mmc.meta.ha.enable = true").status().message(),
              HasSubstr("not supported"));
  EXPECT_TRUE(ParseLocal("ock.mmc.local_service.hcom.tls.enable = true").ok());
}

TEST(MetaConf, TlsNeedsItsFiles) {
  const std::string on = "ock.mmc.tls.enable = true\n";
  EXPECT_EQ(ParseMeta(on).status().message(), "m.conf: ock.mmc.tls.enable = true needs ock.mmc.tls.ca.path");
  EXPECT_EQ(ParseLocal(on + "ock.mmc.tls.ca.path = a\nock.mmc.tls.cert.path = b").status().code(), Code::kConfig);
  EXPECT_THAT(ParseMeta("ock.mmc.config_store.tls.enable = 1").status().message(),
              HasSubstr("set ock.mmc.tls.enable = true"));
  const std::string files = "ock.mmc.tls.ca.path = a\nock.mmc.tls.cert.path = b\nock.mmc.tls.key.path = /c\n";
  const Result<config::Values> meta =
      ParseMeta(on + files + "ock.mmc.tls.top.path = /etc/mmc/\nock.mmc.config_store.tls.enable = 1");
  ASSERT_TRUE(meta.ok()) << meta.status().ToString();
  const meta::MetaOptions options = meta::MetaOptionsFrom(*meta);
  EXPECT_TRUE(options.tls.enable);
  EXPECT_EQ(options.tls.ca_path, "/etc/mmc/a");
  EXPECT_EQ(options.tls.key_path, "/c");
}

TEST(MetaConf, RangesOfThePublishedKeys) {
  for (const char* line :
       {"ock.mmc.evict_threshold_high = 101", "ock.mmc.evict_threshold_low = 99",
        "ock.mmc.log_rotation_file_size = 501", "ock.mmc.log_rotation_file_count = 51",
        "ock.mmc.log_rotation_file_count = 0", "ock.mmc.log_level = loud",
        "ock.mmc.meta_service_url = tcp://127.0.0.1:1024",
        "ock.mmc.meta_service.metrics_report_interval_seconds = 86401"}) {
    const Status status = ParseMeta(line).status();
    EXPECT_EQ(status.code(), Code::kConfig) << line;
    EXPECT_THAT(status.message(), HasSubstr(std::string("m.conf:1: ") + line))
        << "names file, line, key and value";
  }
}

TEST(LocalConf, DefaultsAreThoseOfTheStruct) {
  const local::LocalOptions options = Local("");
  const local::LocalOptions plain;
  EXPECT_EQ(options.meta_url, plain.meta_url);
  EXPECT_EQ(options.name, plain.name);
  EXPECT_EQ(options.join_timeout.count(), 0) << "a daemon waits for its meta service";
  EXPECT_EQ(options.catalog_directory, plain.catalog_directory);
  EXPECT_EQ(options.dram_bytes, plain.dram_bytes);
  EXPECT_EQ(options.hbm_bytes, plain.hbm_bytes);
  EXPECT_EQ(options.numa_node, plain.numa_node);
  EXPECT_EQ(options.hugepages, plain.hugepages);
  EXPECT_EQ(options.prefault, plain.prefault);
  EXPECT_EQ(options.data_url, plain.data_url);
  EXPECT_EQ(options.data_url_set, plain.data_url_set);
  EXPECT_EQ(options.tcp_enable, plain.tcp_enable);
  EXPECT_EQ(options.tcp_threads, plain.tcp_threads);
  EXPECT_EQ(options.shm_enable, plain.shm_enable);
  EXPECT_TRUE(options.warm_restart) << "a daemon's objects outlive it";
  EXPECT_EQ(options.segment_directory, plain.segment_directory);
  EXPECT_EQ(options.cold, plain.cold);
  EXPECT_EQ(options.keep_on_stop, plain.keep_on_stop);
  EXPECT_EQ(options.protocol, plain.protocol);
  EXPECT_EQ(options.transport, plain.transport);
  EXPECT_EQ(options.protocol_strict, plain.protocol_strict);
  EXPECT_EQ(options.drain, plain.drain);
  EXPECT_FALSE(options.shm_directory.empty());
  EXPECT_TRUE(local::ValidateLocalOptions(options).ok());
}

TEST(LocalConf, EachKeyArrives) {
  const local::LocalOptions options = Local(
      "ock.mmc.meta_service_url = tcp://meta.example:5001\nock.mmc.local_service.name = node-a\n"
      "ock.mmc.local_service.join_timeout_milliseconds = 7\nock.mmc.local_service.dram.size = 3MB\n"
      "ock.mmc.local_service.numa.node = 1\nock.mmc.local_service.hugepages = never\n"
      "ock.mmc.local_service.prefault = 0\nock.mmc.local_service.hcom_url = tcp://10.0.0.1:7010\n"
      "ock.mmc.local_service.tcp.threads = 3\nock.mmc.local_service.tcp.congestion_control = bbr\n"
      "ock.mmc.local_service.shm.enable = false\nock.mmc.local_service.shm.directory = /tmp/x\n"
      "ock.mmc.local_service.shm.group = kv\nock.mmc.local_service.catalog.directory = "
      "/tmp/c\nock.mmc.local_service.protocol.strict = true\n"
      "ock.mmc.local_service.drain_milliseconds = 9\n"
      "ock.mmc.local_service.segment.directory = /dev/hugepages\n"
      "ock.mmc.local_service.cold = true\nock.mmc.local_service.stop_mode = keep\n");
  EXPECT_EQ(options.segment_directory, "/dev/hugepages");
  EXPECT_TRUE(options.cold);
  EXPECT_TRUE(options.keep_on_stop);
  EXPECT_EQ(options.meta_url, "tcp://meta.example:5001");
  EXPECT_EQ(options.name, "node-a");
  EXPECT_EQ(options.join_timeout.count(), 7);
  EXPECT_EQ(options.dram_bytes, 4_MiB) << "rounded up to 2 MiB";
  EXPECT_EQ(options.numa_node, 1);
  EXPECT_FALSE(options.hugepages);
  EXPECT_FALSE(options.prefault);
  EXPECT_EQ(options.data_url, "tcp://10.0.0.1:7010");
  EXPECT_TRUE(options.data_url_set);
  EXPECT_EQ(options.tcp_threads, 3);
  EXPECT_EQ(options.tcp_congestion_control, "bbr");
  EXPECT_FALSE(options.shm_enable);
  EXPECT_EQ(options.shm_directory, "/tmp/x");
  EXPECT_EQ(options.shm_group, "kv");
  EXPECT_EQ(options.catalog_directory, "/tmp/c");
  EXPECT_TRUE(options.protocol_strict);
  EXPECT_EQ(options.drain.count(), 9);
}

TEST(LocalConf, ProtocolsOfAllGenerations) {
  const auto transport = [](const std::string& protocol) {
    return Local("ock.mmc.local_service.protocol = " + protocol).transport;
  };
  EXPECT_EQ(transport("sdma"), "device");
  EXPECT_EQ(transport("roce"), "roce");
  EXPECT_EQ(transport("host_rdma"), "roce");
  EXPECT_EQ(transport("host_tcp"), "tcp");
  EXPECT_EQ(transport("HOST_SHM"), "shm");
  EXPECT_EQ(transport("host_urma"), "urma");
  EXPECT_EQ(transport("device_rdma"), "device");
  EXPECT_EQ(transport("device_uboe"), "device");
}

TEST(LocalConf, KeysOfAllGenerationsAreKnown) {
  const Result<config::Values> values = ParseLocal(
      "ock.mmc.meta_service.config_store_url = tcp://127.0.0.1:6000\nock.mmc.tls.top.path = "
      "/opt/ock/security/\n"
      "ock.mmc.config_store.tls.top.path = /opt/ock/security/\nock.mmc.tls.decrypter.path = a.so\n"
      "ock.mmc.local_service.max.dram.size = 64GB\nock.mmc.local_service.max.hbm.size = 0\n"
      "ock.mmc.local_service.memory.pool.mode = standard\nock.mmc.client.aggregate.io = true\n"
      "ock.mmc.client.aggregate.num = 122\nock.mmc.client.batch_option.chunk.size = 8MB\n"
      "ock.mmc.client.batch_option.chunk.count = 3\nock.mmc.ubs_io.enable = false\n"
      "ock.mmc.local_service.storage.enabled = false  # SSD "
      "tier\nock.mmc.local_service.hcom.tls.ca.path = ca.pem\n"
      "ock.mmc.client.read_thread_pool.size = 32\nock.mmc.client.write_thread_pool.size = 5\n");
  ASSERT_TRUE(values.ok()) << values.status().ToString();
  EXPECT_THAT(values->warnings(), IsEmpty());
  EXPECT_EQ(config::ClientSettingsFrom(*values).async_threads, 32);
}

TEST(LocalConf, ClientKeysArrive) {
  const Result<config::Values> values = ParseLocal(
      "ock.mmc.client.timeout.seconds = 5\nock.mmc.client.retry_milliseconds = 600\n"
      "ock.mmc.client.location_cache.enable = true\nock.mmc.client.location_cache.keys = 10\n"
      "ock.mmc.client.shm.enable = false\nock.mmc.client.tcp.connections = 2\n"
      "ock.mmc.client.tcp.congestion_control = cubic\nock.mmc.client.copy_threads = 3\n"
      "ock.mmc.integrity = verify\n");
  ASSERT_TRUE(values.ok()) << values.status().ToString();
  const config::ClientSettings client = config::ClientSettingsFrom(*values);
  EXPECT_EQ(client.timeout, std::chrono::seconds(5));
  EXPECT_EQ(client.connect_retry.count(), 600);
  EXPECT_TRUE(client.location_cache);
  EXPECT_EQ(client.location_cache_keys, 10u);
  EXPECT_EQ(client.integrity, "verify");
  EXPECT_FALSE(client.same_host);
  EXPECT_EQ(client.tcp_connections, 2);
  EXPECT_EQ(client.tcp_congestion_control, "cubic");
  EXPECT_EQ(client.copy_threads, 3);
}

TEST(LocalConf, DefaultDataUrlWrittenOutIsStillTheDefault) {
  EXPECT_FALSE(Local("ock.mmc.local_service.hcom_url = tcp://127.0.0.1:7000").data_url_set);
}

TEST(LocalOptions, ServiceMustGiveMemoryAndBeReachable) {
  const auto message = [](const std::string& text) {
    return local::ValidateLocalOptions(Local(text)).message();
  };
  EXPECT_THAT(message("ock.mmc.local_service.dram.size = 0"), HasSubstr("must give memory"));
  EXPECT_THAT(message("ock.mmc.local_service.hbm.size = 2MB"), HasSubstr("not supported"));
  EXPECT_THAT(message("ock.mmc.local_service.tcp.enable = 0\nock.mmc.local_service.shm.enable = 0"),
              HasSubstr("nobody could reach the memory"));
}

TEST(ShmDirectory, FollowsTheSessionWhenThereIsNoServiceFolder) {
  if (local::DefaultShmDirectory() == "/run/mmc") GTEST_SKIP() << "/run/mmc is there and wins";
  const test::TempDir dir;
  ASSERT_EQ(setenv("XDG_RUNTIME_DIR", dir.path().c_str(), 1), 0);
  EXPECT_EQ(local::DefaultShmDirectory(), dir.path() + "/mmc");
  ASSERT_EQ(setenv("XDG_RUNTIME_DIR", "/nowhere/at/all", 1), 0);
  EXPECT_THAT(local::DefaultShmDirectory(), testing::StartsWith("/tmp/mmc-"));
}

TEST(CheckedIn, FilesAreWhatTheTablesPrint) {
  const char* const remedy = "is not what the table prints; run scripts/gen";
  EXPECT_EQ(test::ReadFile(Source("conf/mmc-meta.conf")), meta::MetaSchema().DumpConf()) << remedy;
  EXPECT_EQ(test::ReadFile(Source("conf/mmc-local.conf")), local::LocalSchema().DumpConf())
      << remedy;
  EXPECT_EQ(test::ReadFile(Source("docs/reference/meta_conf.md")), meta::MetaSchema().DumpDoc())
      << remedy;
  EXPECT_EQ(test::ReadFile(Source("docs/reference/local_conf.md")), local::LocalSchema().DumpDoc())
      << remedy;
}

TEST(CheckedIn, DefaultFilesLoadWithoutAWarning) {
  for (const auto& [schema, path] : {std::pair(&meta::MetaSchema(), "conf/mmc-meta.conf"),
                                     std::pair(&local::LocalSchema(), "conf/mmc-local.conf")}) {
    const Result<config::Values> values = schema->Load(Source(path), {});
    ASSERT_TRUE(values.ok()) << values.status().ToString();
    EXPECT_THAT(values->warnings(), IsEmpty()) << path;
  }
}

}  // namespace
}  // namespace mmc
