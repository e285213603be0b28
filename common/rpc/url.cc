#include "common/rpc/url.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>

namespace mmc::rpc {
namespace {

constexpr size_t kMaxHostBytes = 255;

Status Bad(std::string_view text, std::string_view why) {
  return Status(Code::kInvalidArgument, "'" + std::string(text) + "' is not an address: " + std::string(why) +
                                            "; write scheme://host:port, as in tcp://127.0.0.1:5000, tcp://[::1]:5000");
}

bool IsSchemeChar(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '-'; }

bool IsHostChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' ||
         c == '_';
}

bool IsV6Char(char c) { return IsHostChar(c) || c == ':' || c == '%'; }

// Splits "host:port" or "[v6]:port"; `text` is the whole input, for messages.
Status SplitHostPort(std::string_view text, std::string_view rest, Url* out) {
  std::string_view host, port;
  if (!rest.empty() && rest.front() == '[') {
    const size_t end = rest.find(']');
    if (end == std::string_view::npos) return Bad(text, "']' is missing");
    host = rest.substr(1, end - 1);
    if (end + 1 >= rest.size() || rest[end + 1] != ':') return Bad(text, "the port is missing");
    port = rest.substr(end + 2);
    if (!std::all_of(host.begin(), host.end(), IsV6Char)) return Bad(text, "the host has a wrong character");
  } else {
    const size_t colon = rest.rfind(':');
    if (colon == std::string_view::npos) return Bad(text, "the port is missing");
    host = rest.substr(0, colon);
    port = rest.substr(colon + 1);
    if (host.find(':') != std::string_view::npos) return Bad(text, "an IPv6 address goes in brackets");
    if (!std::all_of(host.begin(), host.end(), IsHostChar)) return Bad(text, "the host has a wrong character");
  }
  if (host.empty()) return Bad(text, "the host is missing");
  if (host.size() > kMaxHostBytes) return Bad(text, "the host is longer than 255 characters");
  uint32_t number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (port.empty() || port.size() > 5 || error != std::errc() || end != port.data() + port.size() || number > 65535) {
    return Bad(text, "the port is not a number of 0..65535");
  }
  out->host = std::string(host);
  out->port = static_cast<uint16_t>(number);
  return Status::Ok();
}

}  // namespace

std::string Url::ToString() const {
  if (scheme == "local") return scheme + "://" + host;
  const bool v6 = host.find(':') != std::string::npos;
  std::string out = scheme.empty() ? std::string() : scheme + "://";
  out += v6 ? "[" + host + "]" : host;
  return out + ":" + std::to_string(port);
}

Result<Url> ParseUrl(std::string_view text) {
  const size_t colon = text.find("://");
  if (colon == std::string_view::npos || colon == 0) return Bad(text, "the scheme is missing");
  Url url;
  url.scheme = std::string(text.substr(0, colon));
  if (!std::all_of(url.scheme.begin(), url.scheme.end(), IsSchemeChar)) {
    return Bad(text, "the scheme has a wrong character");
  }
  std::string_view rest = text.substr(colon + 3);
  if (url.scheme == "local") {
    url.host = std::string(rest);
    return url;
  }
  if (!rest.empty() && rest.back() == '/') rest.remove_suffix(1);
  MMC_RETURN_IF_ERROR(SplitHostPort(text, rest, &url));
  return url;
}

Result<Url> ParseHostPort(std::string_view text) {
  Url url;
  MMC_RETURN_IF_ERROR(SplitHostPort(text, text, &url));
  return url;
}

bool IsLoopback(std::string_view host) {
  const std::string text(host);
  in_addr v4{};
  if (inet_pton(AF_INET, text.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6{};
  if (inet_pton(AF_INET6, text.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  return text == "localhost";
}

}  // namespace mmc::rpc
