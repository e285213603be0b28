// Goal: every page answers what its document says, and no request can make it do more.
// Method: requests as values into the router, over a pool that is made up.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "meta_service/http/router.h"
#include "tests/unit/http_fake_pool.h"

namespace mmc::meta::http {
namespace {

namespace json = boost::json;
using testing::HasSubstr;

class HttpRouterTest : public testing::Test {
 protected:
  FakePool pool_;
  Router router_{pool_, {.rpc_url = "tcp://127.0.0.1:5000", .version = "1.2.3", .how_to_enter = "knock"}};
  Access access_ = Access::kAdmin;
  std::optional<std::string> tenant_;

  Response Get(const std::string& target, const std::string& method = "GET") {
    return router_.Handle(
        {.method = method, .target = target, .unix_seconds = 1700000000, .access = access_, .tenant = tenant_});
  }
  json::value GetJson(const std::string& target) {
    const Response response = Get(target);
    EXPECT_EQ(response.status, 200) << target;
    EXPECT_EQ(response.content_type, "application/json") << target;
    return json::parse(response.body);
  }
  // The whole body, streamed parts included.
  std::string Whole(Response response) {
    std::string all = response.body;
    for (std::string piece = all; !piece.empty() && response.more;) {
      const Result<std::string> next = response.more();
      EXPECT_TRUE(next.ok());
      piece = *next;
      all += piece;
    }
    return all;
  }
};

TEST_F(HttpRouterTest, WhoeverIsOfATenantSeesItsKeysAndNoOthers) {
  pool_.keys["everybodys"] = 5;
  pool_.others["team-a"]["mine"] = 6;
  pool_.others["team-b"]["theirs"] = 7;
  access_ = Access::kRead;
  tenant_ = "team-a";
  EXPECT_EQ(Whole(Get("/get_all_keys")), "mine\n");
  EXPECT_EQ(Whole(Get("/get_all_keys?tenant=team-a")), "mine\n");
  EXPECT_THAT(Get("/query_key?key=mine").body, HasSubstr("\"success\":true"));
  EXPECT_THAT(Get("/query_key?key=everybodys").body, HasSubstr("NOT_FOUND"));
  EXPECT_THAT(Get("/api/v1/tenants").body, HasSubstr("team-a"));
  const int questions = pool_.key_questions;
  for (const char* target : {"/get_all_keys?tenant=team-b", "/query_key?key=theirs&tenant=team-b",
                             "/batch_query_keys?keys=theirs&tenant=team%2Db", "/get_all_keys?tenant=default",
                             "/get_all_keys?tenant=", "/api/v1/tenants?tenant=team-b"}) {
    const Response response = Get(target);
    EXPECT_EQ(response.status, 403) << target;
    EXPECT_EQ(response.body.find("theirs\""), std::string::npos);
  }
  EXPECT_EQ(pool_.key_questions, questions) << "refused before anything was asked";
  tenant_ = "team-b";
  EXPECT_EQ(Get("/api/v1/tenants").body.find("team-a"), std::string::npos);
  tenant_ = "";
  EXPECT_EQ(Whole(Get("/get_all_keys?tenant=default")), "everybodys\n");
  EXPECT_EQ(Get("/get_all_keys?tenant=team-a").status, 403);
  tenant_ = std::nullopt;
  EXPECT_EQ(Whole(Get("/get_all_keys")), "everybodys\n");
  EXPECT_EQ(Whole(Get("/get_all_keys?tenant=team-b")), "theirs\n");
}

TEST_F(HttpRouterTest, StrangersSeeNumbersAndReadersSeeKeys) {
  pool_.keys["secret-key"] = 5;
  const std::vector<std::string> keys = {"/get_all_keys", "/query_key?key=secret-key", "/batch_query_keys?keys=a,b",
                                         "/%67et_all_keys", "/api/v1/tenants"};
  const std::vector<std::string> changes = {"/api/v1/drain_jobs?node=beta", "/api/v1/drain_jobs/cancel?job_id=beta"};
  const std::vector<std::string> open = {"/metrics", "/metrics/summary", "/health", "/ready", "/get_all_segments",
                                         "/api/v1/drain_jobs/query?job_id=beta", "/no/such/page"};
  access_ = Access::kNone;
  for (const std::string& target : keys) {
    for (const char* method : {"GET", "HEAD", "POST"}) {
      const Response response = Get(target, method);
      EXPECT_EQ(response.status, 401) << method << " " << target;
      EXPECT_TRUE(response.ask_token);
      EXPECT_THAT(response.body, HasSubstr("names keys or tenants: knock"));
      EXPECT_EQ(response.body.find("secret-key"), std::string::npos);
    }
  }
  for (const std::string& target : changes) EXPECT_EQ(Get(target, "POST").status, 401) << target;
  for (const std::string& target : open) {
    EXPECT_NE(Get(target).status, 401) << target;
    EXPECT_EQ(Whole(Get(target)).find("secret-key"), std::string::npos) << target;
  }
  EXPECT_EQ(pool_.key_questions, 0) << "nothing was asked for a stranger";
  EXPECT_EQ(pool_.drains, 0);

  access_ = Access::kRead;
  for (const std::string& target : keys) EXPECT_EQ(Get(target).status, 200) << target;
  EXPECT_THAT(Whole(Get("/get_all_keys")), HasSubstr("secret-key"));
  for (const std::string& target : changes) {
    const Response response = Get(target, "POST");
    EXPECT_EQ(response.status, 403) << target;
    EXPECT_FALSE(response.ask_token);
  }
  EXPECT_EQ(pool_.drains, 0);
  access_ = Access::kAdmin;
  for (const std::string& target : changes) EXPECT_EQ(Get(target, "POST").status, 200) << target;
  EXPECT_EQ(pool_.drains, 2);
}

TEST_F(HttpRouterTest, DrainJobsEmptyANode) {
  const auto post = [this](const std::string& target, const std::string& body = "") {
    return json::parse(
        router_
            .Handle({.method = "POST", .target = target, .unix_seconds = 1700000000, .body = body, .access = access_})
            .body);
  };
  EXPECT_EQ(GetJson("/api/v1/drain_jobs/query?job_id=beta").at("status_name"), "CANCELED");
  EXPECT_EQ(Get("/api/v1/drain_jobs?node=beta").status, 405) << "a page that changes something is not for GET";
  EXPECT_EQ(Get("/api/v1/drain_jobs/query?job_id=beta", "POST").status, 405);
  const json::value created = post("/api/v1/drain_jobs?node=alpha%3A7000");
  EXPECT_EQ(created.at("success"), true);
  EXPECT_EQ(created.at("job_id"), "alpha:7000");
  EXPECT_EQ(created.at("status"), "CREATED");
  const json::value running = GetJson("/api/v1/drain_jobs/query?job_id=alpha%3A7000");
  EXPECT_EQ(running.at("status_name"), "RUNNING");
  EXPECT_EQ(running.at("active_units"), 3);
  pool_.drain_left = 0;
  EXPECT_EQ(post("/api/v1/drain_jobs", R"({"segments": ["beta-dram"]})").at("job_id"), "beta");
  EXPECT_EQ(GetJson("/api/v1/drain_jobs/query?job_id=beta").at("status_name"), "SUCCEEDED");
  EXPECT_EQ(post("/api/v1/drain_jobs/cancel?job_id=beta").at("status"), "CANCELED");
  EXPECT_EQ(GetJson("/api/v1/drain_jobs/query?job_id=beta").at("status_name"), "CANCELED");
  EXPECT_EQ(post("/api/v1/drain_jobs?node=nobody").at("error_code"), "NOT_FOUND");
  EXPECT_EQ(post("/api/v1/drain_jobs").at("error_code"), "INVALID_ARGUMENT");
  EXPECT_EQ(post("/api/v1/drain_jobs", "{").at("error_code"), "MALFORMED");
  EXPECT_EQ(post("/api/v1/drain_jobs", R"({"segments": ["a", "b"]})").at("error_code"), "INVALID_ARGUMENT");
}

TEST_F(HttpRouterTest, HealthAndReadiness) {
  const json::value health = GetJson("/health");
  EXPECT_EQ(health.at("status"), "ok");
  EXPECT_EQ(health.at("service_ready"), true);
  EXPECT_EQ(health.at("leader_address"), "tcp://127.0.0.1:5000");
  EXPECT_EQ(health.at("version"), "1.2.3");
  EXPECT_EQ(Get("/ready").status, 200);
  pool_.ready = false;
  EXPECT_EQ(Get("/ready").status, 503);
  EXPECT_EQ(Get("/ready").body, "not ready\n");
  pool_.recovering = true;
  EXPECT_EQ(Get("/ready").status, 503);
  EXPECT_EQ(Get("/ready").body, "recovering\n");
  EXPECT_EQ(GetJson("/health").at("service_ready"), false);
  EXPECT_EQ(Get("/role").body, "leader\n");
  EXPECT_EQ(Get("/ha_status").body, "ha=off role=leader term=3\n");
  EXPECT_EQ(GetJson("/leader").at("view_version"), 3);
}

TEST_F(HttpRouterTest, MetricsAndSummary) {
  const Response metrics = Get("/metrics");
  EXPECT_THAT(metrics.content_type, HasSubstr("version=0.0.4"));
  EXPECT_THAT(metrics.body, HasSubstr("mmc_up 1"));
  pool_.keys["a"] = 1;
  const Response summary = Get("/metrics/summary");
  EXPECT_THAT(summary.body, HasSubstr("nodes_serving=1/2"));
  EXPECT_THAT(summary.body, HasSubstr("mem=40.00 MiB / 300.00 MiB (13.3%)"));
  EXPECT_THAT(summary.body, HasSubstr("keys=1,"));
  EXPECT_THAT(summary.body, HasSubstr("hits=3, misses=1 (75.0% hit)"));
  EXPECT_EQ(std::count(summary.body.begin(), summary.body.end(), '\n'), 1);
}

TEST_F(HttpRouterTest, AKeyIsShownWithItsPlaces) {
  pool_.keys["model@layer/1"] = 100;
  const json::value found = GetJson("/query_key?key=model%40layer%2f1");
  EXPECT_EQ(found.at("success"), true);
  const json::object& replica = found.at("data").as_array().at(0).as_object();
  EXPECT_EQ(replica.at("size_"), 100);
  EXPECT_EQ(replica.at("segment"), "alpha:7000-dram");
  EXPECT_EQ(replica.at("protocol_"), "tcp");
  EXPECT_EQ(replica.at("transport_endpoint_"), "127.0.0.1:7000");
  EXPECT_EQ(replica.at("epoch"), 7);
  EXPECT_EQ(replica.at("extents").as_array().at(0).at("offset"), 409600);
  EXPECT_EQ(GetJson("/query_key?key=model@layer/1").at("success"), true);

  const json::value missing = GetJson("/query_key?key=nobody");
  EXPECT_EQ(missing.at("success"), false);
  EXPECT_EQ(missing.at("error_code"), "NOT_FOUND");
  EXPECT_THAT(std::string(missing.at("error_message").as_string()), HasSubstr("nobody"));
  EXPECT_EQ(missing.at("timestamp"), 1700000000);
  EXPECT_EQ(GetJson("/query_key").at("error_code"), "INVALID_ARGUMENT");
  EXPECT_EQ(GetJson("/query_key?key=").at("error_code"), "INVALID_ARGUMENT");
  EXPECT_EQ(GetJson("/query_key?key=%zz").at("error_code"), "INVALID_ARGUMENT");
}

TEST_F(HttpRouterTest, ABatchAnswersEachKey) {
  pool_.keys["a"] = 1;
  pool_.keys["b,c"] = 2;
  pool_.keys["d+e"] = 3;
  const json::value found = GetJson("/batch_query_keys?keys=a,b%2Cc,d+e,x,");
  const json::object& data = found.at("data").as_object();
  ASSERT_EQ(data.size(), 4u);
  EXPECT_EQ(data.at("a").at("ok"), true);
  EXPECT_EQ(data.at("b,c").at("values").as_array().at(0).at("size_"), 2);
  EXPECT_EQ(data.at("d+e").at("values").as_array().at(0).at("size_"), 3);
  EXPECT_EQ(data.at("x").at("ok"), false);
  EXPECT_EQ(GetJson("/batch_query_keys").at("success"), false);
  EXPECT_EQ(GetJson("/batch_query_keys?keys=,,").at("success"), false);
}

TEST_F(HttpRouterTest, AllKeysComeInPiecesAsLinesThatCanBeAskedFor) {
  EXPECT_EQ(Whole(Get("/get_all_keys")), "");
  std::string expected;
  for (int i = 0; i < 4500; ++i) {
    const std::string key = "key-" + std::to_string(10'000 + i);
    pool_.keys[key] = 1;
    expected += key + "\n";
  }
  const Response response = Get("/get_all_keys");
  ASSERT_TRUE(response.more);
  EXPECT_LT(response.body.size(), expected.size() / 2);
  EXPECT_EQ(Whole(response), expected);

  pool_.keys["zz line\nbreak%\xff"] = 5;
  const std::string with_prefix = Whole(Get("/get_all_keys?prefix=zz%20"));
  EXPECT_EQ(with_prefix, "zz%20line%0Abreak%25%FF\n");
  EXPECT_EQ(GetJson("/query_key?key=zz%20line%0Abreak%25%FF").at("success"), true);
}

TEST_F(HttpRouterTest, AListThatBreaksOffSaysSo) {
  for (int i = 0; i < 4500; ++i) pool_.keys["key-" + std::to_string(10'000 + i)] = 1;
  pool_.lists_left = 2;
  Response response = Get("/get_all_keys");
  ASSERT_TRUE(response.more);
  EXPECT_TRUE(response.more().ok());
  EXPECT_FALSE(response.more().ok());
}

TEST_F(HttpRouterTest, SegmentsByName) {
  EXPECT_EQ(Get("/get_all_segments").body, "alpha:7000-dram\nbeta-dram\n");
  EXPECT_EQ(Get("/query_segment?segment=alpha:7000-dram").body,
            "alpha:7000-dram\nUsed(bytes): 41943040\nCapacity(bytes) : 104857600\n");
  EXPECT_EQ(Get("/query_segment?segment=rank-2-dram").body,
            "beta-dram\nUsed(bytes): 0\nCapacity(bytes) : 209715200\n");
  for (const char* wrong :
       {"rank-3-dram", "rank-2-hbm", "rank-2", "rank--dram", "rank-2-dramx", "gamma"}) {
    EXPECT_EQ(GetJson(std::string("/query_segment?segment=") + wrong).at("error_code"), "NOT_FOUND")
        << wrong;
  }
  EXPECT_EQ(GetJson("/query_segment").at("error_code"), "INVALID_ARGUMENT");
  EXPECT_EQ(GetJson("/api/v1/segments/status?segment=beta-dram").at("status"), "suspect");
  const json::value detail = GetJson("/get_segments_detail");
  ASSERT_EQ(detail.at("data").as_array().size(), 2u);
  EXPECT_EQ(detail.at("data").as_array()[0].at("remaining_bytes"), 62914560);
}

TEST_F(HttpRouterTest, Capacity) {
  const json::value usage = GetJson("/api/v1/capacity/usage");
  EXPECT_EQ(usage.at("data").at("cpu").at("capacity_bytes"), 314572800);
  EXPECT_EQ(usage.at("data").at("cpu").at("used_bytes"), 41943040);
  EXPECT_EQ(usage.at("data").at("npu").at("capacity_bytes"), 0);
  EXPECT_EQ(usage.at("data").at("npu").at("usage"), 0.0);
  EXPECT_EQ(GetJson("/api/v1/capacity/segment_remaining").at("data").at("beta-dram"), 209715200);
  const json::value tenant = GetJson("/api/v1/tenants").at("data").at("team-a");
  EXPECT_EQ(tenant.at("used_bytes"), 4096);
  EXPECT_EQ(tenant.at("quota_bytes"), 1 << 20);
}

TEST_F(HttpRouterTest, OnlyReadsOnlyPagesThatAreThere) {
  for (const char* method : {"PUT", "POST", "DELETE", "PATCH", "BREW"}) {
    const Response response = Get("/query_key?key=a", method);
    EXPECT_EQ(response.status, 405) << method;
    EXPECT_TRUE(response.allow_get);
    EXPECT_EQ(json::parse(response.body).at("success"), false);
  }
  EXPECT_EQ(Get("/health", "HEAD").status, 200);
  for (const char* target : {"/metadata?key=a", "/metrics/ptracer", "/api/v1/remove_all",
                             "/api/v1/analysis/alloc_free_latency"}) {
    for (const char* method : {"GET", "PUT", "POST", "DELETE"}) {
      const Response response = Get(target, method);
      EXPECT_EQ(response.status, 501) << target;
      EXPECT_EQ(json::parse(response.body).at("error_code"), "UNSUPPORTED");
    }
  }
  for (const char* target :
       {"/", "/metric", "/metrics/", "/metadatax", "/query_key/x", "/%2e%2e/etc/passwd"}) {
    EXPECT_EQ(Get(target).status, 404) << target;
  }
  for (const char* target : {"", "health", "*", "http://x/health", "/%", "/health%4", "/a?%gg=1"}) {
    EXPECT_EQ(Get(target).status, 400) << target;
  }
  std::string many = "/query_key?key=a";
  for (int i = 0; i < 100; ++i) many += "&p" + std::to_string(i) + "=1";
  EXPECT_EQ(Get(many).status, 400);
}

TEST_F(HttpRouterTest, AServiceThatCannotAnswerShowsInTheHttpStatus) {
  pool_.down = Status(Code::kShuttingDown, "drains");
  for (const char* target :
       {"/query_key?key=a", "/batch_query_keys?keys=a", "/get_all_keys", "/get_all_segments",
        "/query_segment?segment=a", "/get_segments_detail", "/api/v1/capacity/usage",
        "/api/v1/capacity/segment_remaining", "/metrics/summary", "/leader", "/ha_status"}) {
    const Response response = Get(target);
    EXPECT_EQ(response.status, 503) << target;
    EXPECT_EQ(json::parse(response.body).at("error_code"), "SHUTTING_DOWN");
  }
  EXPECT_EQ(Get("/health").status, 200);
}

TEST(TargetTest, DecodesAndRefuses) {
  const Result<Target> target = ParseTarget("/a%20b?x=1%2C&y&=z&&x=2#part");
  ASSERT_TRUE(target.ok());
  EXPECT_EQ(target->path, "/a b");
  EXPECT_EQ(*target->Find("x"), "1%2C");
  EXPECT_EQ(*target->Find("y"), "");
  EXPECT_EQ(*target->Find(""), "z");
  EXPECT_EQ(target->Find("part"), nullptr);
  EXPECT_EQ(*PercentDecode("a+b%00c"), std::string("a+b\0c", 5));
  for (const char* wrong : {"%", "%1", "%g1", "%1g", "abc%"})
    EXPECT_FALSE(PercentDecode(wrong).ok()) << wrong;
  std::string all;
  for (int c = 0; c < 256; ++c) all.push_back(static_cast<char>(c));
  EXPECT_EQ(*PercentDecode(PrintableKey(all)), all);
}

}  // namespace
}  // namespace mmc::meta::http
