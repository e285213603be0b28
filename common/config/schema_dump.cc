// --dump-conf and --dump-doc: the same table as a conf file and as a manual.
#include "common/config/schema.h"
#include "common/config/value.h"

namespace mmc::config {
namespace {

// `text` in lines of at most 100 bytes that start with "# ".
std::string Commented(std::string_view text) {
  constexpr size_t kWidth = 98;
  std::string out;
  while (!text.empty()) {
    size_t cut = text.size();
    if (cut > kWidth) {
      cut = text.rfind(' ', kWidth);
      if (cut == std::string_view::npos) cut = text.size();
    }
    out += "# " + std::string(text.substr(0, cut)) + "\n";
    text.remove_prefix(cut);
    if (!text.empty()) text.remove_prefix(1);
  }
  return out;
}

std::string Allowed(const Setting& setting) { return TypeText(setting) + " " + RangeText(setting); }

std::string Cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

std::string Code(std::string_view text) {
  return text.empty() ? "(empty)" : "`" + std::string(text) + "`";
}

std::string OlderNames(const Setting& setting) {
  std::string out;
  for (size_t i = 1; i < setting.names.size(); ++i)
    out += (i == 1 ? "" : ", ") + Code(setting.names[i]);
  if (!setting.deprecated_names_note.empty())
    out += (out.empty() ? "" : "; ") + setting.deprecated_names_note;
  return out;
}

}  // namespace

std::string Schema::DumpConf() const {
  std::string out = Commented("Configuration of " + program_ + ": every key with its default.");
  out += Commented(
      "Lines are `key = value`; '#' starts a comment at the start of a line or after white space.");
  for (const Setting& setting : settings_) {
    if (!setting.section.empty()) out += "\n# ---- " + setting.section + " ----\n";
    out += "\n" + Commented(setting.doc);
    out += Commented("Value: " + Allowed(setting) + ".");
    if (!setting.note.empty()) out += Commented("Accepted, without effect: " + setting.note);
    out += setting.names[0] + " =" + (setting.default_text.empty() ? "" : " ") +
           setting.default_text + "\n";
  }
  return out;
}

std::string Schema::DumpDoc() const {
  std::string out = "# Configuration keys of " + program_ +
                    "\n\nPrinted by `--dump-doc` from the table that also parses and checks the "
                    "file. `--dump-conf` prints a "
                    "complete file\nof defaults. A line is `key = value`; `#` starts a comment at "
                    "the start of a line or after "
                    "white space. An unknown\nkey is a warning with the nearest known name; a "
                    "wrong value ends the program with "
                    "exit code 2 and one line that\nnames file, line, key, value and range.\n";
  bool table_open = false;
  for (const Setting& setting : settings_) {
    if (!setting.section.empty()) out += "\n## " + setting.section + "\n";
    if (!setting.section.empty() || !table_open) {
      out += "\n| key | value | default | what it does | other names |\n|---|---|---|---|---|\n";
      table_open = true;
    }
    std::string doc = setting.doc;
    if (!setting.note.empty()) doc += " Accepted, without effect: " + setting.note;
    out += "| `" + setting.names[0] + "` | " + Cell(Allowed(setting)) + " | " +
           Code(setting.default_text) + " | " + Cell(doc) + " | " + Cell(OlderNames(setting)) +
           " |\n";
  }
  return out;
}

}  // namespace mmc::config
