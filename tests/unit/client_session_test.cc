// Sessions that end, answers that get lost, meta services that restart: what the calls of a client
// make of it.
#include <gmock/gmock.h>

#include "tests/unit/client_cluster.h"

namespace mmc::test {
namespace {

using google::protobuf::MessageLite;

// Loses the answer to the first call of `method`: the service has done it, the client does not
// know.
FaultyChannel::After LoseFirstAnswer(uint16_t lost) {
  return [lost, done = std::make_shared<std::atomic<bool>>(false)](uint16_t method, MessageLite*) {
    if (method != lost || done->exchange(true)) return Status::Ok();
    return Status(Code::kConnectionLost, "test: the answer is lost");
  };
}

class SessionTest : public testing::Test {
 protected:
  // A client whose session's id is known to the test.
  std::unique_ptr<Client> Connect() {
    faults_ = std::make_shared<FaultyChannel>(cluster_.RawChannel());
    faults_->SetAfter([this](uint16_t method, MessageLite* reply) {
      if (method == proto::kOpenSession.id)
        session_ = static_cast<proto::OpenSessionReply*>(reply)->session();
      return Status::Ok();
    });
    auto client = client::ConnectOver(cluster_.Options(), {{cluster_.url(), faults_}});
    EXPECT_TRUE(client.ok()) << client.status().ToString();
    return std::move(client).value();
  }
  // Ends the session behind the client's back.
  void EndSession() {
    proto::CloseSessionRequest request;
    request.set_session(session_);
    proto::Empty reply;
    auto channel = cluster_.RawChannel();
    ASSERT_EQ(channel->Call(proto::kCloseSession, request, &reply, In(std::chrono::seconds(10))),
              Status::Ok());
  }

  Cluster cluster_;
  std::shared_ptr<FaultyChannel> faults_;
  std::atomic<uint64_t> session_{0};
};

TEST_F(SessionTest, AnEndedSessionIsOpenedAgainByEachKindOfCall) {
  auto client = Connect();
  uint64_t before = session_;
  EndSession();
  EXPECT_EQ(PutOne(*client, "k", "value"), Status::Ok());
  EXPECT_NE(session_.load(), before);
  before = session_;
  EndSession();
  EXPECT_EQ(GetOne(*client, "k").value_or(""), "value");
  EndSession();
  auto view = client->MakeView("k");
  ASSERT_TRUE(view.ok()) << view.status().ToString();
  EXPECT_EQ(view->size(), 5U);
}

TEST_F(SessionTest, ASessionThatEndsBetweenStartAndCommitCostsAnotherRound) {
  auto client = Connect();
  faults_->SetAfter([this, done = false](uint16_t method, MessageLite* reply) mutable {
    if (method == proto::kOpenSession.id)
      session_ = static_cast<proto::OpenSessionReply*>(reply)->session();
    if (method == proto::kPutStart.id && !done) {
      done = true;
      EndSession();
    }
    return Status::Ok();
  });
  const std::string value = Pattern(500'000, 2);
  EXPECT_EQ(PutOne(*client, "k", value), Status::Ok());
  EXPECT_EQ(faults_->calls(proto::kPutStart.id), 2);
  EXPECT_TRUE(GetOne(*client, "k").value_or("") == value);
}

TEST_F(SessionTest, ALostAnswerToACommitIsAskedAbout) {
  auto client = Connect();
  faults_->SetAfter(LoseFirstAnswer(proto::kPutCommit.id));
  EXPECT_EQ(PutOne(*client, "k", "value"), Status::Ok());
  EXPECT_EQ(faults_->calls(proto::kPutStart.id), 1);
  EXPECT_EQ(faults_->calls(proto::kStat.id), 1);
  EXPECT_EQ(GetOne(*client, "k").value_or(""), "value");
}

TEST_F(SessionTest, ALostCommitIsSentAgain) {
  auto client = Connect();
  faults_->SetBefore([done = false](uint16_t method, const MessageLite&) mutable {
    if (method != proto::kPutCommit.id || done) return Status::Ok();
    done = true;
    return Status(Code::kConnectionLost, "test: the request is lost");
  });
  EXPECT_EQ(PutOne(*client, "k", "value"), Status::Ok());
  EXPECT_EQ(faults_->calls(proto::kPutCommit.id), 2);
  EXPECT_EQ(GetOne(*client, "k").value_or(""), "value");
}

TEST_F(SessionTest, ALostAnswerToAStartLeavesNoGrantBehind) {
  auto client = Connect();
  const uint64_t before = session_;
  auto remember = LoseFirstAnswer(proto::kPutStart.id);
  faults_->SetAfter([this, remember](uint16_t method, MessageLite* reply) {
    if (method == proto::kOpenSession.id)
      session_ = static_cast<proto::OpenSessionReply*>(reply)->session();
    return remember(method, reply);
  });
  EXPECT_EQ(PutOne(*client, "k", "value"), Status::Ok());
  EXPECT_NE(session_.load(), before);
  EXPECT_EQ(GetOne(*client, "k").value_or(""), "value");
  const auto status = client->Cluster();
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(status->grants, 0U);
}

TEST_F(SessionTest, QuestionsAreRepeatedWhenTheirAnswerIsLost) {
  auto client = Connect();
  ASSERT_EQ(PutOne(*client, "k", "value"), Status::Ok());
  const std::string_view key = "k";
  faults_->SetAfter(LoseFirstAnswer(proto::kLookup.id));
  EXPECT_EQ(GetOne(*client, "k").value_or(""), "value");
  faults_->SetAfter(LoseFirstAnswer(proto::kExists.id));
  EXPECT_EQ((*client->Exists(std::span(&key, 1)))[0], 1);
  // A removal too: a key that is gone by then counts as removed.
  faults_->SetAfter(LoseFirstAnswer(proto::kRemove.id));
  const auto removed = client->Remove(std::span(&key, 1));
  ASSERT_TRUE(removed.ok());
  EXPECT_EQ((*removed)[0], Status::Ok());
}

TEST_F(SessionTest, HeartbeatsKeepAnIdleSession) {
  auto client = Connect();
  const uint64_t before = session_;
  const TimePoint deadline = In(std::chrono::seconds(60));
  while (faults_->calls(proto::kSessionHeartbeat.id) < 2 && Clock::Real().Now() < deadline)
    std::this_thread::yield();
  EXPECT_GE(faults_->calls(proto::kSessionHeartbeat.id), 2);
  EXPECT_EQ(PutOne(*client, "k", "value"), Status::Ok());
  EXPECT_EQ(session_.load(), before);
}

TEST_F(SessionTest, AServiceThatIsBusyOrNotTheLeaderIsAskedAgain) {
  auto client = Connect();
  for (const Code code :
       {Code::kQueueFull, Code::kNotLeader, Code::kUnavailable, Code::kRecovering}) {
    faults_->SetBefore([code, left = 3](uint16_t method, const MessageLite&) mutable {
      return method == proto::kExists.id && left-- > 0 ? Status(code, "test") : Status::Ok();
    });
    const std::string_view key = "k";
    EXPECT_TRUE(client->Exists(std::span(&key, 1)).ok()) << CodeName(code);
  }
}

TEST_F(SessionTest, ADirectoryThatIsNotAnsweredIsAClearStatus) {
  auto client = Connect();
  faults_->SetBefore([](uint16_t method, const MessageLite&) {
    return method == proto::kDirectory.id ? Status(Code::kInternal, "test: no directory")
                                          : Status::Ok();
  });
  EXPECT_EQ(PutOne(*client, "k", "value").code(), Code::kInternal);
}

TEST(Restart, AClientGoesOnWithANewMetaService) {
  Cluster cluster;
  auto client = cluster.Connect();
  ASSERT_EQ(PutOne(*client, "k", "value"), Status::Ok());
  cluster.RestartMeta();
  // The new one knows nothing until the node has joined it and reported what it holds.
  const TimePoint deadline = In(std::chrono::seconds(60));
  bool serving = false;
  while (!serving && Clock::Real().Now() < deadline) {
    const auto status = client->Cluster();
    ASSERT_TRUE(status.ok()) << status.status().ToString();
    serving = !status->nodes.empty() && status->nodes[0].state == "serving";
    if (!serving) std::this_thread::yield();
  }
  ASSERT_TRUE(serving);
  EXPECT_EQ(GetOne(*client, "k").value_or(""), "value");
  EXPECT_EQ(PutOne(*client, "k", "again").code(), Code::kExists);
}

TEST(Restart, ConnectRetriesForAsLongAsItIsTold) {
  Cluster cluster;
  const std::string url = cluster.url();
  cluster.StopMeta();
  ClientOptions options = cluster.Options();
  options.connect_retry = std::chrono::seconds(60);
  Result<std::unique_ptr<Client>> client = Code::kInternal;
  std::thread connecting([&] { client = Client::Connect(options); });
  cluster.RestartMeta();
  connecting.join();
  EXPECT_TRUE(client.ok()) << client.status().ToString();
}

}  // namespace
}  // namespace mmc::test
