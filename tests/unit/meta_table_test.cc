// The table of a shard against std::map, its walks, and the size of what it holds.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "meta_service/state/object_table.h"
#include "tests/unit/meta_fixture.h"

namespace mmc::meta {
namespace {

Object* MakeObject(const std::string& key) { return Object::Make(key, 1, 0, {}); }

TEST(MetaTable, RandomWorkMatchesAMap) {
  std::mt19937 random(3);
  ObjectTable table;
  std::map<std::string, Object*> model;
  for (int step = 0; step < 60'000; ++step) {
    const std::string key = "key" + std::to_string(random() % 5000);
    const uint64_t hash = HashKey(key);
    Object* found = table.Find(hash, key);
    ASSERT_EQ(found, model.contains(key) ? model[key] : nullptr);
    if (found == nullptr) {
      model[key] = MakeObject(key);
      table.Insert(hash, model[key]);
    } else if (random() % 3 != 0) {
      table.Erase(hash, found);
      model.erase(key);
      Object::Destroy(found);
    }
    ASSERT_EQ(table.size(), model.size());
  }
  for (const auto& [key, object] : model) ASSERT_EQ(table.Find(HashKey(key), key), object);
}

// Keys that collide in their home slot, also around the end of the array.
TEST(MetaTable, CollidingHashesAreFoundAndErased) {
  ObjectTable table;
  std::vector<std::pair<uint64_t, Object*>> all;
  for (uint64_t i = 0; i < 20; ++i) {
    all.push_back({~uint64_t{0} - (i % 3), MakeObject("k" + std::to_string(i))});
    table.Insert(all.back().first, all.back().second);
  }
  for (size_t i = 0; i < all.size(); i += 2) {
    table.Erase(all[i].first, all[i].second);
    Object::Destroy(all[i].second);
    all[i].second = nullptr;
  }
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(table.Find(all[i].first, "k" + std::to_string(i)), all[i].second) << i;
  }
}

TEST(MetaTable, AWalkMeetsEveryKeyOnceEvenWhenTheTableGrows) {
  ObjectTable table;
  std::set<std::string> expected;
  const auto add = [&](const std::string& key) { table.Insert(HashKey(key), MakeObject(key)); };
  for (int i = 0; i < 3000; ++i) {
    add("first" + std::to_string(i));
    expected.insert("first" + std::to_string(i));
  }
  std::multiset<std::string> met;
  uint64_t from = 0;
  int step = 0;
  do {
    std::vector<std::pair<uint64_t, Object*>> found;
    from = table.Walk(from, 50, &found);
    for (auto& [hash, object] : found) met.insert(std::string(object->key()));
    for (int i = 0; i < 100; ++i) add("later" + std::to_string(step * 100 + i));
    ++step;
  } while (from != 0 && step < 10'000);
  for (const std::string& key : expected) EXPECT_EQ(met.count(key), 1u) << key;
  for (const std::string& key : met) EXPECT_EQ(met.count(key), 1u) << key;
}

class MetaSizes : public MetaFixture {};

TEST_F(MetaSizes, AnObjectTakesAtMost160BytesBesideItsKey) {
  EXPECT_EQ(sizeof(Object), 48u);
  EXPECT_EQ(sizeof(Replica), 32u);
  Join("n", 1_GiB);
  const uint64_t session = OpenSession();
  const uint64_t empty = state_.MetadataBytes();
  constexpr int kObjects = 100'000;
  for (int batch = 0; batch < kObjects / 1000; ++batch) {
    std::vector<std::string> keys;
    for (int i = 0; i < 1000; ++i)
      keys.push_back("key-" + std::to_string(batch) + "-" + std::to_string(i));
    Commit(session, Grants(PutStart(session, keys, 4096)));
    keys_.clear();
  }
  ASSERT_EQ(state_.figures().objects, static_cast<uint64_t>(kObjects));
  EXPECT_LE((state_.MetadataBytes() - empty) / kObjects, 160u);
}

}  // namespace
}  // namespace mmc::meta
