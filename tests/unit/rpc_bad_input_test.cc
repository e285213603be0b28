// What a service makes of bytes that are no proper request: an answer where one is possible, and no harm.
#include <random>

#include "common/base/limits.h"
#include "tests/unit/rpc_fixture.h"

namespace mmc::rpc {
namespace {

class RpcBadInput : public ::testing::Test {
 protected:
  RpcBadInput() { EXPECT_TRUE(service_.Start().ok()); }
  ~RpcBadInput() override { ExpectUnharmed(); }

  void ExpectUnharmed() {
    KeyList reply;
    const Status status = service_.Connect()->Call(kEcho, Text("still here"), &reply, Soon());
    EXPECT_TRUE(status.ok()) << status.ToString();
    EXPECT_EQ(reply.data(), "still here");
  }
  bool Counted(const std::string& reason) {
    return service_.metrics.Expose().find("mmc_rpc_bad_frames_total{reason=\"" + reason + "\"} 1\n") !=
           std::string::npos;
  }
  // The raw frame is answered with `code` and the same id, then the connection ends.
  void ExpectRefused(const std::string& raw, Code code, uint64_t id, const std::string& reason) {
    RawSocket socket(service_.server->port());
    ASSERT_TRUE(socket.Send(raw));
    const auto answer = socket.ReceiveFrame();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->header.kind, FrameKind::kResponse);
    EXPECT_EQ(answer->header.request_id, id);
    EXPECT_EQ(answer->header.deadline_or_status, static_cast<uint32_t>(code)) << answer->body;
    EXPECT_FALSE(answer->body.empty());
    EXPECT_TRUE(socket.Ended());
    EXPECT_TRUE(Counted(reason));
  }
  // The raw frame is answered with `code`, and the connection serves the next one.
  void ExpectAnswered(const std::string& raw, Code code, uint64_t id, const std::string& reason) {
    RawSocket socket(service_.server->port());
    ASSERT_TRUE(socket.Send(raw));
    auto answer = socket.ReceiveFrame();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->header.request_id, id);
    EXPECT_EQ(answer->header.deadline_or_status, static_cast<uint32_t>(code)) << answer->body;
    const std::string body = Text("next").SerializeAsString();
    ASSERT_TRUE(socket.Send(RawRequest(kEcho.id, 2, body)));
    answer = socket.ReceiveFrame();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->header.request_id, 2u);
    EXPECT_EQ(answer->body, body);
    EXPECT_TRUE(Counted(reason));
  }

  EchoService service_{{.frame_timeout = std::chrono::milliseconds(1000)}};
};

TEST_F(RpcBadInput, BadMagic) {
  std::string raw = RawRequest(kEcho.id, 7, "");
  raw[0] = 'X';
  ExpectRefused(raw, Code::kMalformed, 0, "malformed");
}

TEST_F(RpcBadInput, BadKind) {
  std::string raw = RawRequest(kEcho.id, 7, "");
  raw[5] = 9;
  ExpectRefused(raw, Code::kMalformed, 7, "malformed");
}

TEST_F(RpcBadInput, AResponseFromACaller) {
  ExpectRefused(RawFrame({.kind = FrameKind::kResponse, .method = kEcho.id, .request_id = 7}), Code::kMalformed, 7,
                "kind");
}

TEST_F(RpcBadInput, ReservedBytes) {
  std::string raw = RawRequest(kEcho.id, 7, "");
  raw[30] = 1;
  ExpectRefused(raw, Code::kMalformed, 7, "malformed");
}

TEST_F(RpcBadInput, BodyTooLong) {
  ExpectRefused(RawFrame({.method = kEcho.id, .request_id = 7, .body_bytes = kMaxFrameBody + 1}), Code::kTooLarge, 7,
                "too_large");
}

TEST_F(RpcBadInput, AttachmentTooLong) {
  ExpectRefused(RawFrame({.method = kEcho.id, .request_id = 7, .attachment_bytes = 0xFFFFFFFF}), Code::kTooLarge, 7,
                "too_large");
}

TEST_F(RpcBadInput, OtherVersion) {
  ExpectAnswered(RawFrame({.version = 9, .method = kEcho.id, .request_id = 7, .body_bytes = 3}, "abc"),
                 Code::kBadVersion, 7, "version");
}

TEST_F(RpcBadInput, UnknownMethod) {
  ExpectAnswered(RawRequest(kNobody.id, 7, "abc"), Code::kUnknownMethod, 7, "method");
}

TEST_F(RpcBadInput, HighestMethodNumber) {
  ExpectAnswered(RawRequest(0xFFFF, 7, ""), Code::kUnknownMethod, 7, "method");
}

TEST_F(RpcBadInput, AttachmentNobodyWants) {
  ExpectAnswered(RawFrame({.method = kEcho.id, .request_id = 7, .body_bytes = 1, .attachment_bytes = 2}, "xyz"),
                 Code::kUnsupported, 7, "attachment");
}

TEST_F(RpcBadInput, BodyThatDoesNotParse) {
  ExpectAnswered(RawRequest(kEcho.id, 7, "\xFF\xFF\xFF"), Code::kMalformed, 7, "body");
}

TEST_F(RpcBadInput, BodyOfAnAsyncMethodThatDoesNotParse) {
  ExpectAnswered(RawRequest(kEchoLater.id, 7, "\xFF\xFF\xFF"), Code::kMalformed, 7, "body");
}

TEST_F(RpcBadInput, TruncatedFrameThenClose) {
  for (const size_t bytes : {size_t{1}, kHeaderBytes - 1, kHeaderBytes, kHeaderBytes + 3}) {
    RawSocket socket(service_.server->port());
    ASSERT_TRUE(socket.Send(RawRequest(kEcho.id, 7, "0123456789").substr(0, bytes)));
  }
  ExpectUnharmed();
  EXPECT_EQ(service_.echoes.load(), 1);
}

TEST_F(RpcBadInput, SlowHeader) {
  RawSocket socket(service_.server->port());
  ASSERT_TRUE(socket.Send(RawRequest(kEcho.id, 7, "").substr(0, 5)));
  EXPECT_TRUE(socket.Ended());
  EXPECT_TRUE(Counted("slow"));
}

TEST_F(RpcBadInput, SlowBodyWhoseBytesKeepDripping) {
  RawSocket socket(service_.server->port());
  ASSERT_TRUE(socket.Send(RawFrame({.method = kEcho.id, .request_id = 7, .body_bytes = 60u << 20})));
  // Every byte comes in time; the frame as a whole does not.
  EXPECT_TRUE(Eventually([&] { return !socket.Send("x"); }));
  EXPECT_TRUE(Eventually([&] { return Counted("slow"); }));
}

TEST_F(RpcBadInput, SlownessDoesNotOutliveACompleteFrame) {
  RawSocket socket(service_.server->port());
  const std::string body = Text("whole").SerializeAsString();
  const std::string raw = RawRequest(kEcho.id, 7, body);
  ASSERT_TRUE(socket.Send(raw.substr(0, 10)));
  ASSERT_TRUE(socket.Send(raw.substr(10)));
  ASSERT_TRUE(socket.ReceiveFrame());
  // Another connection's frame runs into the timeout after this one's would have.
  RawSocket slow(service_.server->port());
  ASSERT_TRUE(slow.Send("M"));
  ASSERT_TRUE(slow.Ended());
  ASSERT_TRUE(socket.Send(RawRequest(kEcho.id, 8, body)));
  const auto answer = socket.ReceiveFrame();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->header.request_id, 8u);
}

TEST_F(RpcBadInput, Garbage) {
  std::mt19937_64 random(20240607);
  for (int round = 0; round < 64; ++round) {
    RawSocket socket(service_.server->port());
    std::string bytes(1 + random() % 8192, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    // Every other round the garbage begins like a frame.
    if (round % 2 == 0 && bytes.size() >= 6) bytes.replace(0, 6, std::string("MMC1\x01\x00", 6));
    socket.Send(bytes);
    if (round % 3 == 0) socket.Reset();
  }
  ExpectUnharmed();
}

TEST_F(RpcBadInput, OneBadFrameBehindGoodOnes) {
  RawSocket socket(service_.server->port());
  const std::string body = Text("good").SerializeAsString();
  ASSERT_TRUE(socket.Send(RawRequest(kEcho.id, 1, body) + RawRequest(kEcho.id, 2, body) + std::string(32, 'x') +
                          RawRequest(kEcho.id, 3, body)));
  for (const uint64_t id : {uint64_t{1}, uint64_t{2}}) {
    const auto answer = socket.ReceiveFrame();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->header.request_id, id);
    EXPECT_EQ(answer->body, body);
  }
  const auto answer = socket.ReceiveFrame();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->header.deadline_or_status, static_cast<uint32_t>(Code::kMalformed));
  EXPECT_TRUE(socket.Ended());
  EXPECT_EQ(service_.echoes.load(), 2);
}

TEST_F(RpcBadInput, ExpiredRequestIsNotRun) {
  RawSocket socket(service_.server->port());
  // Both arrive in one read; the first keeps the thread for longer than the second may take.
  ASSERT_TRUE(socket.Send(RawRequest(kBusy.id, 1, "") + RawRequest(kEcho.id, 2, "", 1)));
  ASSERT_TRUE(socket.ReceiveFrame());
  const auto answer = socket.ReceiveFrame();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->header.request_id, 2u);
  EXPECT_EQ(answer->header.deadline_or_status, static_cast<uint32_t>(Code::kDeadline));
  EXPECT_EQ(service_.echoes.load(), 0);
}

TEST_F(RpcBadInput, PeerThatNeverReadsItsAnswersIsDropped) {
  RawSocket socket(service_.server->port());
  const std::string request = RawRequest(kEcho.id, 1, Text(std::string(1 << 20, 'x')).SerializeAsString());
  // The service stops reading when too much waits to be sent, then gives the connection up.
  EXPECT_TRUE(Eventually([&] { return !socket.Send(request); }));
}

}  // namespace
}  // namespace mmc::rpc
