#include "common/rpc/frame.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "common/base/limits.h"
#include "common/rpc/frame_reader.h"
#include "common/rpc/url.h"
#include "common/rpc/wire.h"
#include "proto/types.pb.h"

namespace mmc::rpc {
namespace {

using Header = std::array<std::byte, kHeaderBytes>;

Header Encoded(const FrameHeader& header) {
  Header out{};
  EncodeHeader(header, out);
  return out;
}

const FrameHeader kSome{.kind = FrameKind::kResponse,
                        .method = 0x1234,
                        .request_id = 0x0102030405060708,
                        .deadline_or_status = 77,
                        .body_bytes = 5,
                        .attachment_bytes = 3};

TEST(RpcFrame, HeaderComesBack) {
  const auto decoded = DecodeHeader(Encoded(kSome));
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_EQ(decoded->version, kVersion);
  EXPECT_EQ(decoded->kind, FrameKind::kResponse);
  EXPECT_EQ(decoded->method, 0x1234);
  EXPECT_EQ(decoded->request_id, 0x0102030405060708u);
  EXPECT_EQ(decoded->deadline_or_status, 77u);
  EXPECT_EQ(decoded->body_bytes, 5u);
  EXPECT_EQ(decoded->attachment_bytes, 3u);
}

// The bytes themselves are the protocol: they must not move.
TEST(RpcFrame, HeaderBytesAreFixed) {
  const unsigned char expected[kHeaderBytes] = {'M', 'M', 'C', '1', 1, 1, 0x34, 0x12, 8, 7, 6, 5, 4, 3, 2, 1,
                                                77,  0,   0,   0,   5, 0, 0,    0,    3, 0, 0, 0, 0, 0, 0, 0};
  const Header header = Encoded(kSome);
  EXPECT_EQ(std::memcmp(header.data(), expected, kHeaderBytes), 0);
}

TEST(RpcFrame, RefusesWhatIsNoFrame) {
  Header header = Encoded(kSome);
  header[0] = std::byte{'X'};
  EXPECT_EQ(DecodeHeader(header).code(), Code::kMalformed);
  EXPECT_EQ(PeekRequestId(header), 0u);
  header = Encoded(kSome);
  header[5] = std::byte{3};
  EXPECT_EQ(DecodeHeader(header).code(), Code::kMalformed);
  EXPECT_EQ(PeekRequestId(header), kSome.request_id);
  header = Encoded(kSome);
  header[28] = std::byte{1};
  EXPECT_EQ(DecodeHeader(header).code(), Code::kMalformed);
}

TEST(RpcFrame, AnotherVersionIsNoError) {
  Header header = Encoded(kSome);
  header[4] = std::byte{9};
  header[28] = std::byte{1};  // its own meaning of the reserved bytes
  const auto decoded = DecodeHeader(header);
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->version, 9);
  EXPECT_EQ(decoded->request_id, kSome.request_id);
}

TEST(RpcFrame, LengthCaps) {
  FrameHeader header = kSome;
  header.body_bytes = kMaxFrameBody;
  header.attachment_bytes = kMaxFrameAttachment;
  EXPECT_TRUE(DecodeHeader(Encoded(header)).ok());
  header.body_bytes = kMaxFrameBody + 1;
  EXPECT_EQ(DecodeHeader(Encoded(header)).code(), Code::kTooLarge);
  header.body_bytes = 0;
  header.attachment_bytes = 0xFFFFFFFF;
  EXPECT_EQ(DecodeHeader(Encoded(header)).code(), Code::kTooLarge);
}

void Feed(FrameReader& reader, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const std::span<std::byte> room = reader.Prepare();
    const size_t n = std::min(room.size(), bytes.size());
    std::memcpy(room.data(), bytes.data(), n);
    reader.Commit(n);
    bytes = bytes.subspan(n);
  }
}

ByteBuffer ThreeFrames(const std::string& big) {
  ByteBuffer stream;
  proto::KeyList message;
  for (const std::string& data : {std::string("a"), big, std::string()}) {
    message.set_data(data);
    EXPECT_TRUE(AppendMessage({.request_id = data.size()}, message, &stream).ok());
  }
  return stream;
}

TEST(RpcFrameReader, CutsAnySplitOfTheStreamTheSame) {
  const std::string big(300, 'b');
  const ByteBuffer stream = ThreeFrames(big);
  for (size_t step = 1; step <= stream.size(); ++step) {
    FrameReader reader;
    std::vector<uint64_t> ids;
    for (size_t at = 0; at < stream.size(); at += step) {
      Feed(reader, stream.data().subspan(at, std::min(step, stream.size() - at)));
      Frame frame;
      while (reader.Take(&frame) == FrameReader::Next::kFrame) {
        proto::KeyList message;
        ASSERT_TRUE(ParseBody(frame.body, &message).ok());
        ASSERT_EQ(message.data().size(), frame.header.request_id);
        ids.push_back(frame.header.request_id);
      }
    }
    ASSERT_EQ(ids, (std::vector<uint64_t>{1, big.size(), 0})) << "in steps of " << step;
    ASSERT_FALSE(reader.partial());
  }
}

TEST(RpcFrameReader, TakesMemoryForWhatArrivesNotForWhatIsClaimed) {
  FrameReader reader;
  Feed(reader, Encoded({.body_bytes = kMaxFrameBody, .attachment_bytes = kMaxFrameAttachment}));
  Frame frame;
  EXPECT_EQ(reader.Take(&frame), FrameReader::Next::kMore);
  EXPECT_TRUE(reader.partial());
  (void)reader.Prepare();
  EXPECT_LT(reader.memory(), 64u * 1024);
}

TEST(RpcFrameReader, GivesBigMemoryBack) {
  const ByteBuffer stream = ThreeFrames(std::string(8 << 20, 'b'));
  FrameReader reader;
  Frame frame;
  for (size_t at = 0; at < stream.size(); at += 65536) {
    Feed(reader, stream.data().subspan(at, std::min<size_t>(65536, stream.size() - at)));
    while (reader.Take(&frame) == FrameReader::Next::kFrame) {
    }
  }
  EXPECT_LT(reader.memory(), 2u << 20);
}

TEST(RpcFrameReader, StaysBad) {
  FrameReader reader;
  Header header = Encoded(kSome);
  header[5] = std::byte{200};
  Feed(reader, header);
  Frame frame;
  EXPECT_EQ(reader.Take(&frame), FrameReader::Next::kBad);
  EXPECT_EQ(reader.error_request_id(), kSome.request_id);
  Feed(reader, Encoded(kSome));
  EXPECT_EQ(reader.Take(&frame), FrameReader::Next::kBad);
}

TEST(RpcWire, DeadlinesAreRoundedUpAndCut) {
  const TimePoint now = std::chrono::steady_clock::now();
  EXPECT_EQ(RemainingMs(now, now - std::chrono::seconds(1)), 1u);
  EXPECT_EQ(RemainingMs(now, now + std::chrono::microseconds(1)), 1u);
  EXPECT_EQ(RemainingMs(now, now + std::chrono::microseconds(1500)), 2u);
  EXPECT_EQ(RemainingMs(now, TimePoint::max()), 3600u * 1000);
}

TEST(RpcWire, LongFailureTextIsCut) {
  ByteBuffer out;
  AppendFailure({}, Status(Code::kInternal, std::string(1 << 20, 'x')), &out);
  EXPECT_EQ(out.size(), kHeaderBytes + 4096);
}

TEST(RpcUrl, Parts) {
  const auto v4 = ParseUrl("tcp://127.0.0.1:5000");
  ASSERT_TRUE(v4.ok());
  EXPECT_EQ(v4->scheme, "tcp");
  EXPECT_EQ(v4->host, "127.0.0.1");
  EXPECT_EQ(v4->port, 5000);
  const auto v6 = ParseUrl("tcp://[::1]:0");
  ASSERT_TRUE(v6.ok());
  EXPECT_EQ(v6->host, "::1");
  EXPECT_EQ(v6->ToString(), "tcp://[::1]:0");
  EXPECT_EQ(ParseUrl("http://meta.example:8000/")->ToString(), "http://meta.example:8000");
  EXPECT_EQ(ParseUrl("local://?dram=1GB")->host, "?dram=1GB");
  for (const char* host : {"127.0.0.1", "127.9.8.7", "::1", "localhost"}) EXPECT_TRUE(IsLoopback(host)) << host;
  for (const char* host : {"0.0.0.0", "::", "10.0.0.1", "128.0.0.1", "::ffff:10.0.0.1", "fe80::1", "meta.example",
                           "localhost.example", "127.0.0.1.example", ""}) {
    EXPECT_FALSE(IsLoopback(host)) << host;
  }
  EXPECT_EQ(ParseHostPort("[::1]:7000")->ToString(), "[::1]:7000");
}

TEST(RpcUrl, WrongOnesSayWhatIsExpected) {
  for (const char* text : {"", "tcp://", "127.0.0.1:5000", "tcp://host", "tcp://host:", "tcp://host:65536", "tcp://:1",
                           "tcp://ho st:1", "tcp://::1:5000", "tcp://[::1]", "tcp://[::1:5000", "tcp://host:1x",
                           "TCP!://host:1", "tcp://host:1/path", "tcp://host:+1", "tcp://[]:1"}) {
    const auto url = ParseUrl(text);
    ASSERT_FALSE(url.ok()) << text;
    EXPECT_EQ(url.code(), Code::kInvalidArgument);
    EXPECT_NE(url.status().message().find("tcp://127.0.0.1:5000"), std::string::npos) << url.status().message();
  }
}

}  // namespace
}  // namespace mmc::rpc
