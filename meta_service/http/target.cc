#include "meta_service/http/target.h"

namespace mmc::meta::http {
namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

const std::string* Target::Find(std::string_view name) const {
  for (const auto& [key, value] : params) {
    if (key == name) return &value;
  }
  return nullptr;
}

Result<std::string> PercentDecode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out.push_back(text[i]);
      continue;
    }
    const int high = i + 2 < text.size() ? HexDigit(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? HexDigit(text[i + 2]) : -1;
    if (high < 0 || low < 0) {
      return Status(Code::kInvalidArgument,
                    "'%' must be followed by two hexadecimal digits; write % itself as %25");
    }
    out.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return out;
}

Result<Target> ParseTarget(std::string_view text) {
  if (text.empty() || text.front() != '/') {
    return Status(Code::kInvalidArgument, "the request target must start with '/'");
  }
  text = text.substr(0, text.find('#'));
  const size_t mark = text.find('?');
  Target out;
  MMC_ASSIGN_OR_RETURN(out.path, PercentDecode(text.substr(0, mark)));
  if (mark == std::string_view::npos) return out;
  std::string_view rest = text.substr(mark + 1);
  while (!rest.empty()) {
    const size_t end = rest.find('&');
    const std::string_view one = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    if (one.empty()) continue;
    if (out.params.size() == kMaxParams) {
      return Status(Code::kInvalidArgument,
                    "more than " + std::to_string(kMaxParams) + " parameters");
    }
    const size_t equals = one.find('=');
    MMC_ASSIGN_OR_RETURN(std::string name, PercentDecode(one.substr(0, equals)));
    out.params.emplace_back(std::move(name),
                            equals == std::string_view::npos ? "" : one.substr(equals + 1));
  }
  return out;
}

Result<std::vector<std::string>> DecodeList(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    MMC_ASSIGN_OR_RETURN(std::string one, PercentDecode(text.substr(0, comma)));
    if (!one.empty()) out.push_back(std::move(one));
    if (comma == std::string_view::npos) break;
    text = text.substr(comma + 1);
  }
  return out;
}

std::string PrintableKey(std::string_view key) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  out.reserve(key.size());
  for (const char c : key) {
    if (c > ' ' && c < 0x7f && c != '%') {
      out.push_back(c);
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out.push_back('%');
    out.push_back(kHex[byte >> 4]);
    out.push_back(kHex[byte & 15]);
  }
  return out;
}

}  // namespace mmc::meta::http
