#include "client_sdk/python/src/state.h"

#include "client_sdk/python/src/gil.h"
#include "client_sdk/python/src/status.h"

namespace mmc::python {
namespace {

constexpr int kQuestionThreads = 2;
constexpr size_t kQuestionQueue = 16'384;

}  // namespace

ClientState::ClientState() : forks_(ForkCount()), questions_(kQuestionThreads, kQuestionQueue) {}

Result<std::shared_ptr<ClientState>> ClientState::Connect(const ClientOptions& options,
                                                          const local::LocalOptions* contribute) {
  std::shared_ptr<ClientState> out(new ClientState());
  out->meta_url_ = options.meta_url;
  if (contribute != nullptr) {
    MMC_ASSIGN_OR_RETURN(out->contributing_, ContributingClient::Connect(options, *contribute));
    out->client_ = &out->contributing_->client();
    out->node_name_ = out->contributing_->node_name();
  } else {
    MMC_ASSIGN_OR_RETURN(out->own_, Client::Connect(options));
    out->client_ = out->own_.get();
  }
  NoteLive(Rank::kClient, out);
  return out;
}

ClientState::~ClientState() {
  if (foreign()) {
    (void)own_.release();
    (void)contributing_.release();
    return;
  }
  WithoutGil([this] {
    Close();
    own_.reset();
    contributing_.reset();
  });
}

bool ClientState::foreign() const { return ForkCount() != forks_; }

mmc::Client& ClientState::client() {
  if (foreign()) Raise(Status(Code::kClosed, "this client was made before fork(); make one in this process"));
  return *client_;
}

void ClientState::Close() {
  if (foreign() || client_ == nullptr) return;
  closed_ = true;
  MutexLock lock(close_mutex_);
  if (contributing_ != nullptr) {
    contributing_->Close();
  } else {
    client_->Close();
  }
  questions_.Close();
}

}  // namespace mmc::python
