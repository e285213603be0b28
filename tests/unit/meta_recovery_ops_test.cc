// A starting meta service over its in-process channel: what it says while nodes report, and its members file.
#include <filesystem>
#include <fstream>

#include "meta_service/background/members_file.h"
#include "tests/unit/meta_service_fixture.h"
#include "tests/unit/temp_dir.h"

namespace mmc::meta {
namespace {

// ---- recovery ----------------------------------------------------------------------------------------------------

TEST_F(Service, SaysThatItRecoversUntilItHas) {
  MetaOptions options;
  options.recovery = 3s;
  StartService(options);
  EXPECT_FALSE(service_->ready());
  EXPECT_TRUE(Recovering());
  const proto::JoinReply joined = Join("n", true);
  EXPECT_TRUE(joined.want_catalog());
  EXPECT_FALSE(joined.resumed());
  EXPECT_GT(joined.term(), 1'000'000'000'000u);  // milliseconds since 1970

  auto report = Report(joined.node(), false);
  AddRecord(&report, "a", 10, 0, 5000);
  proto::CatalogReportReply taken;
  ASSERT_TRUE(Call(proto::kCatalogReport, report, &taken).ok());
  EXPECT_EQ(taken.adopted(), 1u);
  report = Report(joined.node(), true);
  AddRecord(&report, "b", 11, 2, 100);
  AddRecord(&report, "bad", 12, 600, 100);
  ASSERT_TRUE(Call(proto::kCatalogReport, report, &taken).ok());
  EXPECT_EQ(taken.adopted(), 2u);

  EXPECT_EQ(CodeOf(proto::kExists, {"a", "b"}), Code::kOk);
  EXPECT_EQ(CodeOf(proto::kExists, {"a", "c"}), Code::kRecovering);
  EXPECT_EQ(CodeOf(proto::kExists, {"a", ""}), Code::kOk);  // no such key will ever be
  EXPECT_EQ(CodeOf(proto::kLookupPrefix, {"a", "b"}), Code::kOk);
  EXPECT_EQ(CodeOf(proto::kLookupPrefix, {"a", "c"}), Code::kRecovering);
  EXPECT_EQ(CodeOf(proto::kRemove, {"a", "c"}), Code::kRecovering);
  EXPECT_EQ(CodeOf(proto::kExists, {"a"}), Code::kOk);  // nothing of that call was done
  EXPECT_EQ(CodeOf(proto::kRemove, {"a"}), Code::kOk);
  proto::RemoveManyReply many;
  EXPECT_EQ(Call(proto::kRemoveAll, {}, &many).code(), Code::kRecovering);
  proto::RemoveByPrefixRequest prefix;
  prefix.set_prefix("b");
  EXPECT_EQ(Call(proto::kRemoveByPrefix, prefix, &many).code(), Code::kRecovering);
  proto::ListReply listed;
  EXPECT_EQ(Call(proto::kList, {}, &listed).code(), Code::kRecovering);
  proto::LookupReply found;
  ASSERT_TRUE(Call(proto::kLookup, Keys<proto::LookupRequest>({"b", "c", ""}), &found).ok());
  EXPECT_THAT(found.status(), ElementsAre(static_cast<uint32_t>(Code::kOk), static_cast<uint32_t>(Code::kRecovering),
                                          static_cast<uint32_t>(Code::kInvalidArgument)));
  EXPECT_THAT(PutStart("c").status(), ElementsAre(static_cast<uint32_t>(Code::kRecovering)));

  const std::string metrics = service_->metrics().Expose();
  EXPECT_THAT(metrics, HasSubstr("mmc_meta_recovering 1"));
  EXPECT_THAT(metrics, HasSubstr("mmc_meta_adopted_objects_total 2"));
  EXPECT_THAT(metrics, HasSubstr("mmc_meta_recovery_conflicts_total{kind=\"bad_record\"} 1"));

  EndRecovery(3s);
  EXPECT_TRUE(service_->ready());
  EXPECT_FALSE(Recovering());
  EXPECT_EQ(CodeOf(proto::kExists, {"c"}), Code::kOk);
  EXPECT_EQ(CodeOf(proto::kRemove, {"c"}), Code::kOk);
  EXPECT_TRUE(Call(proto::kRemoveAll, {}, &many).ok());
  EXPECT_EQ(many.removed(), 1u);
}

TEST_F(Service, RecordsAndFencesOfAReturnedNode) {
  StartService({});
  EXPECT_TRUE(service_->ready());  // nothing to recover in a pool that lives in one process
  const uint32_t node = Join("n", true).node();
  proto::DirectoryReply directory;
  ASSERT_TRUE(Call(proto::kDirectory, {}, &directory).ok());
  EXPECT_EQ(directory.nodes(0).state(), proto::NODE_RECOVERING);
  auto report = Report(node, true);
  AddRecord(&report, "bad", 12, 600, 100);
  proto::CatalogReportReply taken;
  ASSERT_TRUE(Call(proto::kCatalogReport, report, &taken).ok());
  directory.Clear();
  ASSERT_TRUE(Call(proto::kDirectory, {}, &directory).ok());
  EXPECT_EQ(directory.nodes(0).state(), proto::NODE_SERVING);

  const auto polled = Poll(node, 0);
  ASSERT_EQ(polled.records_size(), 1);
  EXPECT_EQ(polled.records(0).op(), proto::CATALOG_FORGET);
  EXPECT_EQ(polled.records(0).generation(), 12u);
  EXPECT_EQ(polled.term(), service_->term());
  auto request = Keys<proto::PutStartRequest>({"k"});
  request.set_session(session_);
  request.add_sizes(100);
  proto::PutStartReply started;
  const Status refused = Call(proto::kPutStart, request, &started);
  EXPECT_TRUE(!refused.ok() || started.grant(0) == 0) << "nothing is placed before the fence";
  PollOfTerm(service_->term() - 1, node, 1, true);
  const Status still = Call(proto::kPutStart, request, &started);
  EXPECT_TRUE(!still.ok() || started.grant(0) == 0) << "what was fenced for the service before says nothing";
  Poll(node, 1, true);
  EXPECT_THAT(PutStart("k").status(), ElementsAre(0u));
}

TEST_F(Service, AReportOfAnUnknownNodeOrOfTooManyRecordsIsRefused) {
  StartService({});
  proto::CatalogReportReply taken;
  EXPECT_EQ(Call(proto::kCatalogReport, Report(5, true), &taken).code(), Code::kStaleNode);
  const uint32_t node = Join("n", false).node();
  EXPECT_TRUE(Call(proto::kCatalogReport, Report(node, true), &taken).ok());  // nobody asked for it
  auto report = Report(node, false);
  for (int i = 0; i <= 1 << 16; ++i) report.add_records();
  EXPECT_EQ(Call(proto::kCatalogReport, report, &taken).code(), Code::kTooLarge);
}

// ---- the members file --------------------------------------------------------------------------------------------

TEST(MetaMembersFile, KeepsNamesOfAnyBytes) {
  const test::TempDir dir;
  const std::string path = dir.File("members");
  EXPECT_FALSE(MembersFile::Load(path)->has_value());
  using Kind = MemberRow::Kind;
  const MembersFile written{77,
                            {{Kind::kHere, "plain-1", 5, false},
                             {Kind::kHere, "with space\n%41", 0, true},
                             {Kind::kMissing, std::string("\0\xFF", 2), ~uint64_t{0}, false},
                             {Kind::kGone, "x", 1, false}}};
  ASSERT_TRUE(written.Store(path).ok());
  const auto read = MembersFile::Load(path);
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_EQ((*read)->term, 77u);
  EXPECT_EQ((*read)->rows, written.rows);
}

TEST(MetaMembersFile, AFileOfTheVersionBeforeIsRead) {
  const test::TempDir dir;
  const std::string path = dir.File("members");
  std::ofstream(path) << "mmc-members 1\nterm 5\nnode a%2F1\nend 1\n";
  const auto read = MembersFile::Load(path);
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_EQ((*read)->term, 5u);
  EXPECT_EQ((*read)->rows, (std::vector<MemberRow>{{.name = "a/1"}}));
}

TEST(MetaMembersFile, WhatIsNotWholeIsRefused) {
  const test::TempDir dir;
  const std::string path = dir.File("members");
  for (const char* text : {"", "mmc-members 3\nend 0\n", "mmc-members 2\nnode a\nend 1\n",
                           "mmc-members 2\nnode a x\nend 1\n", "mmc-members 2\nlost a 1\nend 1\n",
                           "mmc-members 1\ngone a 1\nend 1\n", "mmc-members 1\nterm 5\nnode a\n",
                           "mmc-members 1\nnode a\nend 2\n",
                           "mmc-members 1\nterm x\nend 0\n", "mmc-members 1\nnode a%4\nend 1\n",
                           "mmc-members 1\nnode a%zz\nend 1\n", "mmc-members 1\nwhat 1\nend 0\n"}) {
    std::ofstream(path) << text;
    const auto read = MembersFile::Load(path);
    EXPECT_EQ(read.code(), Code::kMalformed) << text;
    EXPECT_THAT(read.status().message(), HasSubstr(path));
  }
}

TEST_F(Service, WithAMembersFileItWaitsNoLongerThanForThem) {
  const test::TempDir dir;
  MetaOptions options;
  options.recovery = 3s;
  options.state_path = dir.path();
  StartService(options);
  const uint64_t first_term = service_->term();
  EXPECT_TRUE(service_->recovering());  // a first start knows nobody, so it waits
  Join("a", false);
  Join("b", false);
  EndRecovery(3s);
  service_->RunBackgroundNow();
  StopService();

  StartService(options);
  EXPECT_GT(service_->term(), first_term);
  service_->RunBackgroundNow();
  EXPECT_TRUE(service_->recovering());
  Join("a", false);
  service_->RunBackgroundNow();
  EXPECT_TRUE(service_->recovering());
  const uint32_t node = Join("b", true).node();
  service_->RunBackgroundNow();
  EXPECT_TRUE(service_->recovering());
  proto::CatalogReportReply taken;
  ASSERT_TRUE(Call(proto::kCatalogReport, Report(node, true), &taken).ok());
  EXPECT_FALSE(service_->recovering());
}

TEST_F(Service, AMemberIsInTheFileBeforeItKnowsThatItIsOne) {
  const test::TempDir dir;
  MetaOptions options;
  options.recovery = 3s;
  options.state_path = dir.path();
  StartService(options);  // its clock stands: no job runs
  Join("a", true);
  auto file = MembersFile::Load(dir.File("members"));
  ASSERT_TRUE(file.ok() && file->has_value());
  EXPECT_EQ((*file)->term, service_->term());
  EXPECT_EQ((*file)->rows, (std::vector<MemberRow>{{.name = "a", .incarnation = kIncarnation}}));
  proto::DrainRequest drain;
  drain.set_node("a");
  proto::Empty none;
  ASSERT_TRUE(Call(proto::kDrain, drain, &none).ok());
  file = MembersFile::Load(dir.File("members"));
  ASSERT_TRUE(file.ok() && file->has_value());
  EXPECT_TRUE((*file)->rows.front().draining);
}

TEST_F(Service, AListThatCannotBeWrittenDoesNotStay) {
  const test::TempDir dir;
  MetaOptions options;
  options.recovery = 3s;
  options.state_path = dir.path();
  StartService(options);
  Join("a", true);
  std::filesystem::create_directory(dir.File("members.new"));  // in the way of the next one
  Join("b", true);
  EXPECT_FALSE(MembersFile::Load(dir.File("members"))->has_value()) << "b would not be waited for";
  std::filesystem::remove(dir.File("members.new"));
  clock_.Advance(1s);
  service_->RunBackgroundNow();
  EXPECT_EQ((*MembersFile::Load(dir.File("members")))->rows.size(), 2u);
}

TEST_F(Service, ANodeThatStaysAwayForAWholeTermDoesNotComeBackWithItsObjects) {
  const test::TempDir dir;
  ASSERT_TRUE((MembersFile{5, {{.name = "a", .incarnation = kIncarnation}, {.name = "b", .incarnation = 1}}})
                  .Store(dir.File("members"))
                  .ok());
  MetaOptions options;
  options.recovery = 3s;
  options.state_path = dir.path();
  StartService(options);
  const uint32_t other = Join("b", true).node();
  proto::CatalogReportReply taken;
  ASSERT_TRUE(Call(proto::kCatalogReport, Report(other, true), &taken).ok());
  EndRecovery(3s);
  service_->RunBackgroundNow();
  StopService();
  StartService(options);
  proto::JoinRequest late;
  late.set_name("a");
  late.set_incarnation(kIncarnation);
  late.set_keeps_memory(true);
  proto::JoinReply joined;
  EXPECT_EQ(Call(proto::kJoin, late, &joined).code(), Code::kStaleNode);
}

TEST_F(Service, ANodeThatComesLateIsMissingUntilItHasForgottenWhatWasRemoved) {
  const test::TempDir dir;
  ASSERT_TRUE((MembersFile{5, {{.name = "a", .incarnation = kIncarnation}}}).Store(dir.File("members")).ok());
  MetaOptions options;
  options.recovery = 3s;
  options.state_path = dir.path();
  StartService(options);
  EndRecovery(3s);
  EXPECT_EQ(CodeOf(proto::kRemove, {"k"}), Code::kOk);
  const auto kind = [&dir] { return (*MembersFile::Load(dir.File("members")))->rows.at(0).kind; };
  const uint32_t node = Join("a", true).node();
  EXPECT_EQ(kind(), MemberRow::Kind::kMissing);
  auto report = Report(node, true);
  AddRecord(&report, "k", 10, 0, 100);
  proto::CatalogReportReply taken;
  ASSERT_TRUE(Call(proto::kCatalogReport, report, &taken).ok());
  EXPECT_EQ(taken.adopted(), 0u);
  EXPECT_EQ(kind(), MemberRow::Kind::kMissing);
  EXPECT_EQ(Poll(node, 0).records_size(), 1);
  service_->RunBackgroundNow();
  EXPECT_EQ(kind(), MemberRow::Kind::kMissing) << "taken, not applied";
  Poll(node, 1);
  service_->RunBackgroundNow();
  EXPECT_EQ(kind(), MemberRow::Kind::kHere);
}

TEST_F(Service, ATermIsAboveTheOneOfTheFileWhateverTheClockSays) {
  const test::TempDir dir;
  ASSERT_TRUE((MembersFile{uint64_t{1} << 60, {}}).Store(dir.File("members")).ok());
  MetaOptions options;
  options.state_path = dir.path();
  StartService(options);
  EXPECT_EQ(service_->term(), (uint64_t{1} << 60) + 1);
}

TEST(MetaServiceMembers, ABrokenMembersFileStopsTheStart) {
  const test::TempDir dir;
  std::ofstream(dir.File("members")) << "what?";
  MetaOptions options;
  options.url.clear();
  options.state_path = dir.path();
  EXPECT_EQ(MetaService::Create(options).code(), Code::kMalformed);
}

}  // namespace
}  // namespace mmc::meta
