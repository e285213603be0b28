// Goal: a token opens what it is for, nothing else opens anything, and a file of tokens that is wrong opens nothing.
#include "meta_service/http/access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/time.h>

#include <fstream>

#include "tests/unit/temp_dir.h"

namespace mmc::meta::http {
namespace {

using test::TempDir;
using testing::HasSubstr;

constexpr char kRead[] = "reader-0123456789";
constexpr char kAdmin[] = "admin-0123456789abcdef";
const std::string kGood = std::string("# tokens\n\nread ") + kRead + "\r\n  admin\t" + kAdmin + "  \n";

class HttpAccess : public testing::Test {
 protected:
  void Write(const std::string& text, mode_t mode = 0600) {
    std::ofstream(path_, std::ios::trunc) << text;
    ASSERT_EQ(chmod(path_.c_str(), mode), 0);
    // Files that are written within one tick of the clock of the file system look alike.
    const timeval times[2] = {{++seconds_, 0}, {seconds_, 0}};
    ASSERT_EQ(utimes(path_.c_str(), times), 0);
  }
  Status LoadOf(const std::string& text, mode_t mode = 0600) {
    Write(text, mode);
    return Tokens(path_, "the.key").Load();
  }
  static std::string Bearer(const std::string& token) { return "Bearer " + token; }

  TempDir folder_;
  const std::string path_ = folder_.path() + "/tokens";
  time_t seconds_ = 1'700'000'000;
};

TEST_F(HttpAccess, EachTokenOpensWhatItIsFor) {
  Write(kGood);
  Tokens tokens(path_, "the.key");
  ASSERT_TRUE(tokens.Load().ok());
  EXPECT_EQ(tokens.Of(Bearer(kRead)).access, Access::kRead);
  EXPECT_EQ(tokens.Of(Bearer(kAdmin)).access, Access::kAdmin);
  EXPECT_EQ(tokens.Of(std::string("bEARER   ") + kAdmin + " ").access, Access::kAdmin);
  const std::string admin = kAdmin;
  for (const std::string& wrong :
       {std::string(), std::string("Bearer"), std::string("Bearer "), admin, "Basic " + admin,
        Bearer(admin.substr(1)), Bearer(admin + "x"), Bearer(admin.substr(0, admin.size() - 1)),
        Bearer("# tokens aaaaaaaaaaa"), Bearer(std::string(100'000, 'a')), Bearer(admin + std::string(1, '\0')),
        Bearer("ADMIN-0123456789abcdef"), Bearer(admin + "," + admin)}) {
    EXPECT_EQ(tokens.Of(wrong).access, Access::kNone) << wrong.substr(0, 64);
  }
}

TEST_F(HttpAccess, ATokenCanBeOfOneTenant) {
  Write(std::string("read ") + kRead + "  tenant=team-a\nread other-0123456789 tenant=default\nadmin " + kAdmin);
  Tokens tokens(path_, "the.key");
  ASSERT_TRUE(tokens.Load().ok());
  EXPECT_EQ(tokens.Of(Bearer(kRead)).access, Access::kRead);
  EXPECT_EQ(tokens.Of(Bearer(kRead)).tenant, "team-a");
  EXPECT_EQ(tokens.Of(Bearer("other-0123456789")).tenant, "");
  EXPECT_FALSE(tokens.Of(Bearer(kAdmin)).tenant.has_value());
  for (const std::string rest : {"tenant=", "tenant=a b", "team-a", "tenant=a/b", "tenant=a tenant=b"}) {
    EXPECT_EQ(LoadOf(std::string("read ") + kRead + " " + rest).code(), Code::kConfig) << rest;
  }
  EXPECT_EQ(LoadOf(std::string("admin ") + kAdmin + " tenant=a").code(), Code::kConfig) << "it would drain for all";
}

TEST_F(HttpAccess, WithoutAFileNobodyHasAToken) {
  Tokens none("", "the.key");
  EXPECT_FALSE(none.configured());
  EXPECT_TRUE(none.Load().ok());
  EXPECT_EQ(none.Of(Bearer(kAdmin)).access, Access::kNone);
}

TEST_F(HttpAccess, AWrongFileIsRefusedWithItsLine) {
  EXPECT_TRUE(LoadOf("").ok());
  for (const std::string& text :
       {std::string("admin short\n"), std::string("admin\n"), std::string(kAdmin), std::string("root ") + kAdmin,
        std::string("admin with blanks in its middle"), "admin " + std::string(257, 'a'),
        "admin " + std::string(20, '\x80')}) {
    const Status status = LoadOf("\n" + text);
    EXPECT_EQ(status.code(), Code::kConfig) << text;
    EXPECT_THAT(status.message(), HasSubstr("the.key"));
    EXPECT_THAT(status.message(), HasSubstr(path_ + " line 2"));
    EXPECT_EQ(status.message().find(kAdmin), std::string::npos) << "a message must not show a token";
  }
  std::string many;
  for (size_t i = 0; i <= Tokens::kMaxTokens; ++i) many += "read " + std::to_string(1'000'000'000'000'000 + i) + "\n";
  EXPECT_THAT(LoadOf(many).message(), HasSubstr("more than 1024"));
  EXPECT_EQ(Tokens(folder_.path() + "/none", "the.key").Load().code(), Code::kConfig);
}

TEST_F(HttpAccess, AFileThatOthersMayReadIsRefused) {
  for (const mode_t mode : {0604, 0640, 0644, 0660, 0666}) {
    if (mode == 0640) continue;  // root's file may be read by its group, and tests may run as root
    const Status status = LoadOf(kGood, mode);
    EXPECT_FALSE(status.ok()) << std::oct << mode;
    EXPECT_THAT(status.message(), HasSubstr(path_));
  }
}

TEST_F(HttpAccess, AChangedFileCountsAtOnceAndABadOneOpensNothing) {
  Write(kGood);
  Tokens tokens(path_, "the.key");
  ASSERT_TRUE(tokens.Load().ok());
  Write("admin another-0123456789\n");
  EXPECT_EQ(tokens.Of(Bearer(kAdmin)).access, Access::kNone);
  EXPECT_EQ(tokens.Of(Bearer("another-0123456789")).access, Access::kAdmin);
  Write("admin another-0123456789\nnonsense\n");
  EXPECT_EQ(tokens.Of(Bearer("another-0123456789")).access, Access::kNone) << "half a file is none";
  Write(kGood, 0644);
  EXPECT_EQ(tokens.Of(Bearer(kAdmin)).access, Access::kNone) << "others can read it";
  Write(kGood);
  EXPECT_EQ(tokens.Of(Bearer(kAdmin)).access, Access::kAdmin);
  ASSERT_EQ(unlink(path_.c_str()), 0);
  EXPECT_EQ(tokens.Of(Bearer(kAdmin)).access, Access::kNone);
}

TEST_F(HttpAccess, OnlyAnAdminCertificateOpensPages) {
  using security::Role;
  EXPECT_EQ(CallerOf({.role = Role::kAdmin}).access, Access::kAdmin);
  EXPECT_FALSE(CallerOf({.role = Role::kAdmin}).tenant.has_value());
  EXPECT_EQ(CallerOf({.role = Role::kAdmin, .tenant = "team-a"}).tenant, "team-a");
  for (const Role role : {Role::kNone, Role::kMeta, Role::kLocal, Role::kClient}) {
    EXPECT_EQ(CallerOf({.role = role, .tenant = "admin"}).access, Access::kNone);
  }
}

}  // namespace
}  // namespace mmc::meta::http
