// Values in place: a lookup with a pin, the mapped bytes of a same-host replica, and an unpin when
// the view dies.
#include "client_sdk/src/client_impl.h"
#include "proto/key_list.h"

namespace mmc {

View::View(View&& other) noexcept
    : pieces_(std::move(other.pieces_)), size_(other.size_), release_(std::move(other.release_)) {
  other.pieces_.clear();
  other.size_ = 0;
  other.release_ = nullptr;
}

View& View::operator=(View&& other) noexcept {
  if (this == &other) return *this;
  if (release_) release_();
  pieces_ = std::move(other.pieces_);
  size_ = other.size_;
  release_ = std::move(other.release_);
  other.pieces_.clear();
  other.size_ = 0;
  other.release_ = nullptr;
  return *this;
}

View::~View() {
  if (release_) release_();
}

Status ClientImpl::LookupPinned(const client::OpenedSession& opened, std::string_view key,
                                TimePoint deadline, proto::LookupReply* reply) {
  proto::LookupRequest request;
  request.set_session(opened.id);
  request.set_tenant(core_->options.tenant);
  request.set_pin(true);
  proto::AppendKey(key, request.mutable_keys());
  MMC_RETURN_IF_ERROR(core_->session->Call(proto::kLookup, request, reply, deadline,
                                           client::OnLostAnswer::kReport));
  if (reply->status_size() != 1 || reply->size_size() != 1 || reply->generation_size() != 1) {
    return Status(Code::kMalformed, "reply to Lookup: not one status, size and generation per key");
  }
  const Code code = CodeFromWire(reply->status(0));
  return code == Code::kOk ? Status::Ok() : Status(code, std::string(CodeMeaning(code)));
}

Result<View> ClientImpl::MakeView(std::string_view key) {
  MMC_RETURN_IF_ERROR(client::CheckKey(key));
  const TimePoint deadline = core_->DeadlineFor({});
  const std::shared_ptr<client::Session>& session = core_->session;
  client::Backoff backoff;
  proto::LookupReply reply;
  auto opened = session->current();
  while (true) {
    const Status pinned = LookupPinned(*opened, key, deadline, &reply);
    if (pinned.ok()) break;
    if (pinned.code() == Code::kSessionLost) {
      MMC_RETURN_IF_ERROR(session->Reopen(*opened, deadline));
    } else if (pinned.code() != Code::kRecovering || !session->Pause(backoff.Next(), deadline)) {
      return pinned;
    }
    opened = session->current();
  }
  client::Location location;
  location.size = reply.size(0);
  location.generation = reply.generation(0);
  client::ReplicaReader reader(reply.replicas());
  Status read = reader.Next(location.size, &location);
  if (read.ok()) read = session->DirectoryAt(*opened, reply.directory_version(), deadline).status();
  Result<View> view = read.ok() ? ViewOf(*opened, location, deadline) : Result<View>(read);
  if (!view.ok()) {
    session->Unpin(opened->id, std::string(key), location.generation);
    return view;
  }
  view->release_ = [session, link = std::move(view->release_), id = opened->id,
                    name = std::string(key),
                    generation = location.generation] { session->Unpin(id, name, generation); };
  return view;
}

Result<View> ClientImpl::ViewOf(const client::OpenedSession& opened,
                                const client::Location& location, TimePoint deadline) {
  Status last(Code::kUnsupported, "no replica of the value is on this host; read it with GetInto");
  for (const client::Replica& replica : location.replicas) {
    const auto directory = core_->session->directory();
    const client::DirectoryNode* node = directory->Find(replica.node);
    if (node == nullptr || !node->same_host) continue;
    auto link = core_->session->LinkTo(opened, replica.node, deadline);
    if (!link.ok()) {
      last = link.status();
      continue;
    }
    View view;
    for (const client::Extent& extent : location.extents_of(replica)) {
      const std::byte* bytes = (*link)->View(replica.region, extent.offset, extent.length);
      if (bytes == nullptr) break;
      view.pieces_.push_back({bytes, extent.length});
    }
    if (view.pieces_.size() != replica.extent_count) continue;
    view.size_ = location.size;
    // The mapping lives as long as its link; MakeView puts the unpin around this.
    view.release_ = [held = std::move(link).value()] {};
    return view;
  }
  return last;
}

}  // namespace mmc
