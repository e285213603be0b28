// What TLS is made of: certificates and what they say, keys and who may read them, pass phrases, lists, reloads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <memory>

#include "common/config/common_settings.h"
#include "common/security/secret_file.h"
#include "common/security/tls_context.h"
#include "common/security/tls_options.h"
#include "tests/unit/test_certs.h"

namespace mmc::security {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using test::CertPair;
using test::CertSpec;
using test::TestCa;

class FilesTest : public ::testing::Test {
 protected:
  TlsOptions Write(const CertPair& pair, const std::string& revoked = "") {
    return test::WriteTls(dir_, "own", ca_.cert(), pair, revoked);
  }
  static std::string LoadError(const TlsOptions& options) {
    const auto loaded = TlsContext::Load(options);
    EXPECT_EQ(loaded.code(), Code::kConfig) << loaded.status().ToString();
    return loaded.status().message();
  }
  static Result<Identity> IdentityIn(const CertPair& pair) {
    const auto parsed = ParseCertificates(pair.cert, "pair");
    EXPECT_TRUE(parsed.ok()) << parsed.status().ToString();
    return IdentityOf(parsed->front().get());
  }

  test::TempDir dir_;
  TestCa ca_;
};

TEST_F(FilesTest, CertificateNamesRoleTenantAndNode) {
  const auto client = IdentityIn(ca_.Issue({.role = "client", .tenant = "team-7"}));
  ASSERT_TRUE(client.ok()) << client.status().ToString();
  EXPECT_EQ(client->role, Role::kClient);
  EXPECT_EQ(client->tenant, "team-7");
  EXPECT_EQ(client->name, "");
  EXPECT_EQ(client->subject, "CN=test client");
  const auto local = IdentityIn(ca_.Issue({.role = "local", .node = "host-1:7000"}));
  ASSERT_TRUE(local.ok()) << local.status().ToString();
  EXPECT_EQ(local->role, Role::kLocal);
  EXPECT_EQ(local->name, "host-1:7000");
}

TEST_F(FilesTest, CertificatesThatNameNobodyOrTwoAreRefused) {
  const auto refusal = [&](const CertSpec& spec) { return IdentityIn(ca_.Issue(spec)).status().message(); };
  EXPECT_THAT(refusal({.role = ""}), HasSubstr("names no role"));
  EXPECT_THAT(refusal({.role = "", .hosts = ""}), HasSubstr("names no role"));
  EXPECT_THAT(refusal({.role = "root"}), HasSubstr("'root' is none of meta, local, client, admin"));
  EXPECT_THAT(refusal({.role = "none"}), HasSubstr("'none' is none of"));
  EXPECT_THAT(refusal({.role = "client", .more = "URI:mmc:role:admin"}), HasSubstr("two roles"));
  EXPECT_THAT(refusal({.tenant = "a/b"}), HasSubstr("tenant is not"));
  EXPECT_THAT(refusal({.tenant = std::string(65, 't')}), HasSubstr("tenant is not"));
  EXPECT_THAT(refusal({.role = "local", .node = std::string(256, 'n')}), HasSubstr("node name"));
  EXPECT_EQ(refusal({.tenant = std::string(64, 't'), .more = "URI:mmc:later:thing,URI:https://x/"}), "");
}

TEST_F(FilesTest, LoadsAndSaysWhatItHas) {
  const auto context = TlsContext::Load(Write(ca_.Issue({.role = "meta"}), ca_.Revoke({})));
  ASSERT_TRUE(context.ok()) << context.status().ToString();
  EXPECT_EQ((*context)->own()->role, Role::kMeta);
  const auto files = (*context)->Files();
  ASSERT_EQ(files.size(), 3u);
  EXPECT_EQ(files[0].kind, "certificate");
  EXPECT_EQ(files[1].kind, "authority");
  EXPECT_EQ(files[2].kind, "revocation list");
  EXPECT_GT(files[2].not_after, std::time(nullptr));
  EXPECT_TRUE((*context)->CheckOwn().ok());
  EXPECT_TRUE((*context)->EndingWithin(std::chrono::hours(1)).empty());
  const auto ending = (*context)->EndingWithin(std::chrono::hours(48));
  ASSERT_EQ(ending.size(), 3u);
  EXPECT_THAT(ending[0], AllOf(HasSubstr("own.cert.pem"), HasSubstr("CN=test meta"), HasSubstr(" UTC, in ")));
}

TEST_F(FilesTest, RefusesFilesByNameAndReason) {
  TlsOptions options = Write(ca_.Issue({}));
  options.prefix = "ock.mmc.tls.";
  TlsOptions broken = options;
  broken.ca_path.clear();
  EXPECT_EQ(LoadError(broken), "ock.mmc.tls.ca.path: is empty, and TLS is on");
  broken = options;
  broken.cert_path = dir_.File("nowhere.pem");
  EXPECT_THAT(LoadError(broken), HasSubstr("nowhere.pem: cannot be opened: No such file"));
  broken.cert_path = dir_.path();
  EXPECT_THAT(LoadError(broken), HasSubstr("not a regular file"));
  broken.cert_path = options.key_path;
  EXPECT_THAT(LoadError(broken), HasSubstr("own.key.pem: has no certificate in PEM form"));
  broken.cert_path = dir_.Write("damaged.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
  EXPECT_THAT(LoadError(broken), HasSubstr("damaged.pem: has a damaged certificate"));
  broken.cert_path = dir_.Write("big.pem", std::string((1u << 20) + 1, 'x'));
  EXPECT_THAT(LoadError(broken), HasSubstr("more than 1 MiB"));
  broken = options;
  broken.crl_path = options.ca_path;
  EXPECT_THAT(LoadError(broken), HasSubstr("has no revocation list in PEM form"));
  broken = options;
  broken.key_path = test::Replace(dir_, "other.key.pem", ca_.Issue({}).key);
  EXPECT_THAT(LoadError(broken), HasSubstr("other.key.pem: the key does not belong to the certificate in"));
}

TEST_F(FilesTest, RefusesKeysThatOthersMayRead) {
  const TlsOptions options = Write(ca_.Issue({}));
  for (const mode_t mode : {0644, 0606, 0620, 0602}) {
    ASSERT_EQ(::chmod(options.key_path.c_str(), mode), 0);
    EXPECT_THAT(LoadError(options), AllOf(HasSubstr("own.key.pem: has mode 0"), HasSubstr("chmod 0600")));
  }
  ASSERT_EQ(::chmod(options.key_path.c_str(), 0400), 0);
  EXPECT_TRUE(TlsContext::Load(options).ok());
}

TEST_F(FilesTest, RefusesOwnCertificatesOutsideTheirDatesOrRole) {
  EXPECT_THAT(LoadError(Write(ca_.Issue({.until = -60}))), AllOf(HasSubstr("own.cert.pem"), HasSubstr("ended on 20")));
  EXPECT_THAT(LoadError(Write(ca_.Issue({.from = 3600}))), HasSubstr("is valid from 20"));
  EXPECT_THAT(LoadError(Write(ca_.Issue({.role = ""}))), HasSubstr("names no role"));
  const TlsOptions client = Write(ca_.Issue({.role = "client"}));
  const auto refused = TlsContext::LoadFor(client, {Role::kMeta, Role::kLocal});
  EXPECT_EQ(refused.code(), Code::kConfig);
  EXPECT_THAT(refused.status().message(), HasSubstr("role is client, and meta or local is needed here"));
  TlsOptions off;
  const auto none = TlsContext::LoadFor(off, {Role::kMeta});
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(*none, nullptr);
}

TEST_F(FilesTest, OwnCertificateOfAnotherAuthorityIsToldByTheCheck) {
  TestCa other("another authority");
  const auto context = TlsContext::Load(Write(other.Issue({})));
  ASSERT_TRUE(context.ok());
  EXPECT_THAT((*context)->CheckOwn().message(), AllOf(HasSubstr("own.cert.pem"), HasSubstr("no authority in")));
  const CertPair pair = ca_.Issue({});
  const auto revoked = TlsContext::Load(Write(pair, ca_.Revoke({pair})));
  ASSERT_TRUE(revoked.ok());
  EXPECT_THAT((*revoked)->CheckOwn().message(), HasSubstr("it is revoked by"));
}

TEST_F(FilesTest, EncryptedKeysNeedTheirPassPhrase) {
  TlsOptions options = Write(ca_.Issue({}, "open sesame"));
  EXPECT_THAT(LoadError(options), HasSubstr("the key is encrypted and no pass phrase is given"));
  options.key_pass_path = test::Replace(dir_, "pass", "open sesame\n");
  EXPECT_TRUE(TlsContext::Load(options).ok());
  test::Replace(dir_, "pass", "shut\n");
  EXPECT_THAT(LoadError(options), HasSubstr("the pass phrase does not open the key"));
  test::Replace(dir_, "pass", "\nopen sesame");
  EXPECT_THAT(LoadError(options), HasSubstr("begins with an empty line"));
  test::Replace(dir_, "pass", "open sesame\n");
  ASSERT_EQ(::chmod(options.key_pass_path.c_str(), 0644), 0);
  EXPECT_THAT(LoadError(options), HasSubstr("pass: has mode 0644"));
}

TEST_F(FilesTest, PassPhraseGoesThroughTheDecrypter) {
  TlsOptions options = Write(ca_.Issue({}, "open sesame"));
  options.key_pass_path = test::Replace(dir_, "pass", "emases nepo\n");
  std::string library = test::ReadFile(MMC_TEST_DECRYPTER);
  options.decrypter_path = test::Replace(dir_, "decrypter.so", library);
  EXPECT_TRUE(TlsContext::Load(options).ok());
  test::Replace(dir_, "pass", "fail\n");
  EXPECT_THAT(LoadError(options), HasSubstr("DecryptPassword answers 3"));
  ASSERT_EQ(::chmod(options.decrypter_path.c_str(), 0722), 0);
  EXPECT_THAT(LoadError(options), HasSubstr("others may change it"));
  options.decrypter_path = options.cert_path;
  EXPECT_THAT(LoadError(options), HasSubstr("is no library that can be loaded"));
  options.decrypter_path = dir_.File("nowhere.so");
  EXPECT_THAT(LoadError(options), HasSubstr("nowhere.so: cannot be opened"));
}

TEST_F(FilesTest, ReloadKeepsWhatItHasWhenTheFilesAreWrong) {
  const TlsOptions options = Write(ca_.Issue({.role = "client"}));
  const auto context = TlsContext::Load(options);
  ASSERT_TRUE(context.ok());
  test::Replace(dir_, "own.cert.pem", ca_.Issue({.role = "admin"}).cert);
  EXPECT_THAT((*context)->Reload().message(), HasSubstr("does not belong"));
  EXPECT_EQ((*context)->own()->role, Role::kClient);
  const CertPair pair = ca_.Issue({.role = "admin"});
  test::Replace(dir_, "own.cert.pem", pair.cert);
  test::Replace(dir_, "own.key.pem", pair.key);
  EXPECT_TRUE((*context)->Reload().ok());
  EXPECT_EQ((*context)->own()->role, Role::kAdmin);
}

TEST_F(FilesTest, ChangedFilesAreSeen) {
  const TlsOptions options = Write(ca_.Issue({.role = "client"}));
  const auto context = TlsContext::Load(options);
  ASSERT_TRUE(context.ok());
  const CertPair pair = ca_.Issue({.role = "admin"});
  test::Replace(dir_, "own.cert.pem", pair.cert);
  test::Replace(dir_, "own.key.pem", pair.key);
  const TimePoint until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  bool reloaded = false;
  while (!reloaded && std::chrono::steady_clock::now() < until) {
    ASSERT_TRUE((*context)->ReloadIfChanged(&reloaded).ok());
  }
  EXPECT_EQ((*context)->own()->role, Role::kAdmin);
}

TEST_F(FilesTest, OptionsComeFromTheConf) {
  const config::Schema schema("test", config::TlsSettings(), {});
  const auto values = schema.Parse(
      "ock.mmc.tls.enable = true\nock.mmc.tls.top.path = /opt/ock/security\nock.mmc.tls.ca.path = certs/ca.pem\n"
      "ock.mmc.tls.cert.path = /etc/own.pem\nock.mmc.tls.decrypter.path = libs/d.so\n",
      "test.conf", {});
  ASSERT_TRUE(values.ok()) << values.status().ToString();
  const TlsOptions options = TlsOptionsFrom(*values, "ock.mmc.tls.");
  EXPECT_TRUE(options.enable);
  EXPECT_EQ(options.ca_path, "/opt/ock/security/certs/ca.pem");
  EXPECT_EQ(options.cert_path, "/etc/own.pem");
  EXPECT_EQ(options.crl_path, "");
  EXPECT_EQ(options.decrypter_path, "/opt/ock/security/libs/d.so");
  EXPECT_EQ(options.prefix, "ock.mmc.tls.");
}

}  // namespace
}  // namespace mmc::security
