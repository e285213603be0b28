// Tenants through real clients, a real meta service and a real node: whatever one does, the others see nothing of it.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "common/base/limits.h"
#include "tests/unit/client_cluster.h"

namespace mmc::test {
namespace {

using Contents = std::map<std::string, std::string>;

// Keys that all tenants use, among them some that look like the stored keys of the others.
std::vector<std::string> SharedKeys() {
  std::vector<std::string> keys;
  for (int i = 0; i < 24; ++i) keys.push_back("model@" + std::to_string(i % 3) + "/" + std::to_string(i));
  for (const std::string& owner : {std::string("a"), std::string("b"), std::string()}) {
    for (int i = 0; i < 4; ++i) {
      keys.push_back(std::string("\xff") + static_cast<char>(owner.size()) + owner + keys[static_cast<size_t>(i)]);
    }
  }
  keys.push_back("\xff");
  keys.push_back("\xff\xff");
  keys.push_back("a");
  keys.push_back(std::string(kMaxKeyBytes, '\xff'));
  return keys;
}

std::vector<std::string> Prefixes() {
  return {"model@", "model@1/", "m", "\xff", std::string("\xff\x01", 2), std::string("\xff\x01", 2) + "a", "\xff\xff",
          std::string("\xff\x00", 2)};
}

class Member {
 public:
  Member(Cluster& cluster, const std::string& tenant) : tenant_(tenant) {
    ClientOptions options = cluster.Options();
    options.tenant = tenant;
    options.location_cache = tenant == "b";  // one that also answers from what it remembers
    client_ = cluster.Connect(options);
  }

  Client& client() { return *client_; }
  const Contents& model() const { return model_; }

  void Put(const std::string& key, const std::string& value) {
    const Status status = PutOne(*client_, key, value);
    const Code expected = model_.count(key) != 0 ? Code::kExists : Code::kOk;
    ASSERT_EQ(status.code(), expected) << Where(key) << status.ToString();
    model_.emplace(key, value);
  }
  void Get(const std::string& key) {
    const Result<std::string> got = GetOne(*client_, key);
    const auto known = model_.find(key);
    if (known == model_.end()) {
      ASSERT_EQ(got.status().code(), Code::kNotFound) << Where(key);
    } else {
      ASSERT_TRUE(got.ok()) << Where(key) << got.status().ToString();
      ASSERT_EQ(*got, known->second) << Where(key);
    }
  }
  void Look(const std::vector<std::string>& keys) {
    const std::vector<std::string_view> views(keys.begin(), keys.end());
    const auto there = [this](std::string_view key) { return model_.count(std::string(key)) != 0; };
    const auto exists = client_->Exists(views);
    const auto prefix = client_->Prefix(views);
    const auto stat = client_->Stat(views);
    ASSERT_TRUE(exists.ok() && prefix.ok() && stat.ok());
    for (size_t i = 0; i < views.size(); ++i) {
      ASSERT_EQ((*exists)[i] != 0, there(views[i])) << Where(keys[i]);
      ASSERT_EQ((*stat)[i].status.ok(), there(views[i])) << Where(keys[i]);
      ASSERT_EQ((*stat)[i].size, there(views[i]) ? model_.at(keys[i]).size() : 0) << Where(keys[i]);
    }
    ASSERT_EQ(*prefix, std::find_if_not(views.begin(), views.end(), there) - views.begin()) << Where(keys[0]);
  }
  void View(const std::string& key) {
    const auto view = client_->MakeView(key);
    const auto known = model_.find(key);
    ASSERT_EQ(view.ok(), known != model_.end()) << Where(key) << view.status().ToString();
    ASSERT_EQ(view.ok() ? view->size() : 0, view.ok() ? known->second.size() : 0) << Where(key);
  }
  void Remove(const std::string& key) {
    const std::string_view view = key;
    const auto statuses = client_->Remove({&view, 1});
    ASSERT_TRUE(statuses.ok()) << statuses.status().ToString();
    ASSERT_EQ((*statuses)[0].ok(), model_.erase(key) == 1) << Where(key);
  }
  void RemoveByPrefix(const std::string& prefix) {
    const auto removed = client_->RemoveByPrefix(prefix);
    ASSERT_TRUE(removed.ok()) << removed.status().ToString();
    ASSERT_EQ(*removed, std::erase_if(model_, [&](const auto& item) { return item.first.starts_with(prefix); }))
        << Where(prefix);
  }
  void RemoveAll() {
    const auto removed = client_->RemoveAll();
    ASSERT_TRUE(removed.ok()) << removed.status().ToString();
    ASSERT_EQ(*removed, model_.size()) << Where("");
    model_.clear();
  }
  void List(const std::string& prefix, uint32_t page) {
    Contents listed;
    std::string token;
    do {
      const auto keys = client_->List(prefix, token, page);
      ASSERT_TRUE(keys.ok()) << keys.status().ToString();
      for (size_t i = 0; i < keys->keys.size(); ++i) {
        const auto known = model_.find(keys->keys[i]);
        ASSERT_NE(known, model_.end()) << Where(keys->keys[i]) << "is not this tenant's";
        ASSERT_EQ(keys->sizes[i], known->second.size());
        ASSERT_TRUE(listed.insert(*known).second) << Where(keys->keys[i]) << "listed twice";
      }
      token = keys->next_page_token;
    } while (!token.empty());
    for (const auto& [key, value] : model_) {
      ASSERT_EQ(listed.count(key) != 0, key.starts_with(prefix)) << Where(key);
    }
  }

 private:
  std::string Where(const std::string& key) const {
    std::string shown;
    for (const char c : key.substr(0, 40)) shown += c >= 0x20 && c < 0x7f ? c : '?';
    return "tenant '" + tenant_ + "', key '" + shown + "': ";
  }

  const std::string tenant_;
  Contents model_;
  std::unique_ptr<Client> client_;
};

TEST(Tenants, TenThousandRandomCallsOfThreeAgainstAModel) {
  Cluster cluster;
  std::vector<std::unique_ptr<Member>> members;
  for (const char* tenant : {"a", "b", ""}) members.push_back(std::make_unique<Member>(cluster, tenant));
  const std::vector<std::string> keys = SharedKeys(), prefixes = Prefixes();
  std::mt19937_64 random(20261120);
  const auto any = [&](const std::vector<std::string>& of) { return of[random() % of.size()]; };
  for (int step = 0; step < 10'000 && !::testing::Test::HasFatalFailure(); ++step) {
    SCOPED_TRACE("step " + std::to_string(step));
    Member& member = *members[random() % members.size()];
    const uint64_t dice = random() % 100;
    if (dice < 40) {
      member.Put(any(keys), Pattern(1 + random() % 3000, random()));
    } else if (dice < 60) {
      member.Get(any(keys));
    } else if (dice < 72) {
      member.Look({any(keys), any(keys), any(keys), any(keys)});
    } else if (dice < 76) {
      member.View(any(keys));
    } else if (dice < 91) {
      member.Remove(any(keys));
    } else if (dice < 94) {
      member.RemoveByPrefix(any(prefixes));
    } else if (dice < 99) {
      member.List(random() % 3 == 0 ? std::string() : any(prefixes), 1 + random() % 20);
    } else {
      member.RemoveAll();
    }
  }
  for (auto& member : members) {
    for (const std::string& key : keys) member->Get(key);
    member->List("", 1000);
  }
}

TEST(Tenants, ComeBackAfterARestartOfTheMetaService) {
  ClusterOptions options;
  options.restart_recovery = std::chrono::seconds(30);
  options.meta.commit_durable = true;
  Cluster cluster(options);
  Member a(cluster, "a"), b(cluster, "b"), none(cluster, "");
  uint64_t seed = 1;
  for (Member* member : {&a, &b, &none}) {
    member->Put("k", Pattern(1000, seed++));
    member->Put(std::string(kMaxKeyBytes, '\xff'), Pattern(100, seed++));
  }
  none.Put(std::string("\xff\x01", 2) + "ak", "not a's");
  b.Put("only b", "x");
  cluster.RestartMeta();
  for (Member* member : {&a, &b, &none}) {
    for (const auto& [key, value] : member->model()) member->Get(key);
    member->Get("only b");
    member->List("", 100);
  }
  const auto status = a.client().Cluster();
  ASSERT_TRUE(status.ok()) << status.status().ToString();
  std::map<std::string, uint64_t> objects;
  for (const TenantUse& tenant : status->tenants) objects[tenant.name] = tenant.objects;
  EXPECT_EQ(objects, (std::map<std::string, uint64_t>{{"a", 2}, {"b", 3}, {"default", 3}}));
}

TEST(Tenants, AWrongNameIsRefusedInWords) {
  Cluster cluster;
  ClientOptions options = cluster.Options();
  options.tenant = "a/b";
  const auto client = Client::Connect(options);
  EXPECT_EQ(client.status().code(), Code::kInvalidArgument);
  EXPECT_NE(client.status().message().find("letters, digits"), std::string::npos) << client.status().ToString();
  options.tenant = "default";
  const auto named = cluster.Connect(options), unnamed = cluster.Connect();
  ASSERT_TRUE(PutOne(*named, "k", "v").ok());
  EXPECT_EQ(*GetOne(*unnamed, "k"), "v") << "'default' is the tenant without a name";
}

TEST(Tenants, OneAtItsQuotaKeepsWritingAndOthersKeepTheirs) {
  ClusterOptions options;
  options.dram_bytes = 16_MiB;
  options.meta.tenant_quotas = *meta::ParseTenantQuotas("a:2MB");
  Cluster cluster(options);
  Member b(cluster, "b");
  for (int i = 0; i < 20; ++i) b.Put("b" + std::to_string(i), Pattern(64_KiB, static_cast<uint64_t>(i)));
  ClientOptions a_options = cluster.Options();
  a_options.tenant = "a";
  const auto a = cluster.Connect(a_options);
  for (int i = 0; i < 200; ++i) {
    const Status put = PutOne(*a, "a" + std::to_string(i), Pattern(64_KiB, static_cast<uint64_t>(i)));
    ASSERT_TRUE(put.ok()) << i << ": " << put.ToString();
  }
  const auto status = a->Cluster();
  ASSERT_TRUE(status.ok());
  std::map<std::string, TenantUse> use;
  for (const TenantUse& tenant : status->tenants) use[tenant.name] = tenant;
  EXPECT_LE(use["a"].used_bytes, 2_MiB);
  EXPECT_GT(use["a"].evicted_bytes, 9_MiB);
  EXPECT_EQ(use["b"].objects, 20u);
  EXPECT_EQ(use["b"].evicted_bytes, 0u);
  for (const auto& [key, value] : b.model()) b.Get(key);
}

}  // namespace
}  // namespace mmc::test
