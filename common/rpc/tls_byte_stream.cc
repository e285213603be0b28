#include "common/rpc/tls_byte_stream.h"

#include <utility>

namespace mmc::rpc {
namespace {

using security::TlsSession;

class TlsByteStream final : public ByteStream {
 public:
  TlsByteStream(std::unique_ptr<ByteStream> below, std::unique_ptr<TlsSession> session)
      : below_(std::move(below)), session_(std::move(session)) {}

  Outcome Handshake() override {
    Outcome out = After(session_->Handshake());
    if (session_->plain()) {
      out.failure = Status(Code::kUnavailable,
                           "the service does not speak TLS; set ock.mmc.tls.enable the same on both ends");
    }
    return out;
  }
  Outcome Read(std::span<std::byte> into) override { return After(session_->Read(into)); }
  Outcome Write(std::span<const std::byte> from) override { return After(session_->Write(from)); }
  bool buffered() const override { return session_->buffered(); }
  void Shutdown() override { below_->Shutdown(); }
  int fd() const override { return below_->fd(); }

 private:
  static Outcome After(TlsSession::Outcome outcome) {
    return {.bytes = outcome.bytes,
            .would_block = outcome.want != TlsSession::Want::kNothing,
            .end = outcome.end,
            .wants_room = outcome.want == TlsSession::Want::kWrite,
            .failure = std::move(outcome.failure)};
  }

  const std::unique_ptr<ByteStream> below_;
  const std::unique_ptr<TlsSession> session_;
};

}  // namespace

Result<std::unique_ptr<ByteStream>> MakeTlsByteStream(std::unique_ptr<ByteStream> below,
                                                      security::TlsContext& context,
                                                      const security::PeerWanted& wanted) {
  MMC_ASSIGN_OR_RETURN(std::unique_ptr<TlsSession> session, TlsSession::Client(context, below->fd(), wanted));
  return std::unique_ptr<ByteStream>(std::make_unique<TlsByteStream>(std::move(below), std::move(session)));
}

}  // namespace mmc::rpc
