// put, get, exists, stat, rm, ls.
#include <algorithm>

#include "client_sdk/cli/commands.h"
#include "client_sdk/cli/files.h"
#include "client_sdk/cli/render.h"
#include "client_sdk/cli/text.h"
#include "common/base/bytes.h"
#include "common/base/limits.h"

namespace mmc::cli {
namespace {

namespace json = boost::json;

std::vector<std::string_view> KeysOf(const Context& context) {
  return {context.args.operands().begin(), context.args.operands().end()};
}

Status ForKey(const Status& status, std::string_view key) {
  return status.Annotate("key '" + PrintableKey(key.substr(0, 200)) + "'");
}

int RunPut(Context& context) {
  const std::string& key = context.args.operands()[0];
  const Result<PutOptions> options = PutOptionsFor(context);
  if (!options.ok()) return context.Fail(options.status());
  const Result<std::string> value = ReadWholeFile(context.args.operands()[1], kMaxValueBytes);
  if (!value.ok()) return context.Fail(value.status());
  if (value->empty()) {
    return context.Fail(
        Status(Code::kInvalidArgument,
               "'" + context.args.operands()[1] + "' is empty; a value has at least 1 byte"));
  }
  auto client = ConnectFor(context);
  if (!client.ok()) return context.Fail(client.status());
  const ConstBuffer buffer{value->data(), value->size()};
  const PutItem item{.key = key, .buffers = {&buffer, 1}};
  const Status status = (*client)->Put({&item, 1}, *options).at(0);
  const bool existed = status.code() == Code::kExists;
  if (existed && !context.args.Switch("exist-ok")) {
    return context.Fail(
        ForKey(Status(Code::kExists,
                      "is there already and its value stays; to replace it run mmc rm first,"
                      " to accept it give --exist-ok"),
               key));
  }
  if (!status.ok() && !existed) return context.Fail(ForKey(status, key));
  if (context.json()) {
    json::object object = KeyJson(key);
    object["size"] = value->size();
    object["stored"] = !existed;
    object["replicas"] = options->replicas;
    context.PrintJson(object);
  }
  context.Say(PrintableKey(key) + ": " +
              (existed ? "was there already" : "stored " + FormatBytes(value->size())));
  return kExitOk;
}

int RunGet(Context& context) {
  const std::string& key = context.args.operands()[0];
  const bool to_file = context.args.operands().size() == 2 && context.args.operands()[1] != "-";
  if (context.json() && !to_file) {
    return context.Fail(
        Status(Code::kInvalidArgument, "--json needs a FILE: the value itself is not JSON"));
  }
  auto client = ConnectFor(context);
  if (!client.ok()) return context.Fail(client.status());
  const std::string_view key_view = key;
  const Result<std::string> value = std::move((*client)->Get({&key_view, 1}).at(0));
  if (!value.ok()) return context.Fail(ForKey(value.status(), key));
  if (!to_file) {
    context.out.Write(*value);
    return kExitOk;
  }
  const std::string& path = context.args.operands()[1];
  if (const Status status = WriteWholeFile(path, *value); !status.ok()) return context.Fail(status);
  if (context.json()) {
    json::object object = KeyJson(key);
    object["size"] = value->size();
    object["file"] = path;
    context.PrintJson(object);
  }
  context.Say(PrintableKey(key) + ": " + FormatBytes(value->size()) + " written to " + path);
  return kExitOk;
}

int RunExists(Context& context) {
  auto client = ConnectFor(context);
  if (!client.ok()) return context.Fail(client.status());
  const std::vector<std::string_view> keys = KeysOf(context);
  const Result<std::vector<uint8_t>> present = (*client)->Exists(keys);
  if (!present.ok()) return context.Fail(present.status());
  uint64_t absent = 0;
  json::array list;
  for (size_t i = 0; i < keys.size(); ++i) {
    const bool there = (*present)[i] != 0;
    absent += there ? 0 : 1;
    context.Say(PrintableKey(keys[i]) + (there ? ": present" : ": absent"));
    json::object object = KeyJson(keys[i]);
    object["present"] = there;
    list.push_back(std::move(object));
  }
  if (context.json()) context.PrintJson({{"keys", std::move(list)}, {"absent", absent}});
  return absent == 0 ? kExitOk : kExitFailed;
}

int RunStat(Context& context) {
  auto client = ConnectFor(context);
  if (!client.ok()) return context.Fail(client.status());
  const std::vector<std::string_view> keys = KeysOf(context);
  const Result<std::vector<ObjectInfo>> infos = (*client)->Stat(keys);
  if (!infos.ok()) return context.Fail(infos.status());
  bool all = true;
  json::array list;
  for (size_t i = 0; i < keys.size(); ++i) {
    all &= (*infos)[i].status.ok();
    if (context.json()) {
      list.emplace_back(ObjectJson(keys[i], (*infos)[i]));
    } else {
      context.out.Write(ObjectText(keys[i], (*infos)[i]));
    }
  }
  if (context.json()) context.PrintJson({{"keys", std::move(list)}});
  return all ? kExitOk : kExitFailed;
}

int RemoveKeys(Context& context, Client& client) {
  const std::vector<std::string_view> keys = KeysOf(context);
  const Result<std::vector<Status>> statuses = client.Remove(keys);
  if (!statuses.ok()) return context.Fail(statuses.status());
  uint64_t removed = 0;
  json::array list;
  for (size_t i = 0; i < keys.size(); ++i) {
    const Status& status = (*statuses)[i];
    removed += status.ok() ? 1 : 0;
    if (!status.ok()) context.Warn(ForKey(status, keys[i]).ToString());
    json::object object = KeyJson(keys[i]);
    object["removed"] = status.ok();
    object["status"] = json::string_view(CodeName(status.code()));
    list.push_back(std::move(object));
  }
  if (context.json()) context.PrintJson({{"removed", removed}, {"keys", std::move(list)}});
  context.Say(std::to_string(removed) + " removed");
  return removed == keys.size() ? kExitOk : kExitFailed;
}

int RunRm(Context& context) {
  const bool by_prefix = context.args.Has("prefix");
  const bool all = context.args.Switch("all");
  const int ways = (by_prefix ? 1 : 0) + (all ? 1 : 0) + (context.args.operands().empty() ? 0 : 1);
  if (ways != 1) {
    return context.Fail(Status(Code::kInvalidArgument,
                               "say what to remove in one way: KEY..., --prefix P, or --all"));
  }
  if (by_prefix && context.args.Text("prefix").empty()) {
    return context.Fail(
        Status(Code::kInvalidArgument, "--prefix '' would remove everything; say --all for that"));
  }
  auto client = ConnectFor(context);
  if (!client.ok()) return context.Fail(client.status());
  if (!by_prefix && !all) return RemoveKeys(context, **client);
  const Result<uint64_t> removed =
      by_prefix ? (*client)->RemoveByPrefix(context.args.Text("prefix")) : (*client)->RemoveAll();
  if (!removed.ok()) return context.Fail(removed.status());
  if (context.json()) context.PrintJson({{"removed", *removed}});
  context.Say(std::to_string(*removed) + " removed");
  return kExitOk;
}

// One page, in the form the flags ask for. `first`: nothing was printed yet.
std::string PageText(const Context& context, const ListPage& page, bool first) {
  std::string text;
  for (size_t i = 0; i < page.keys.size(); ++i) {
    if (context.json()) {
      json::object object = KeyJson(page.keys[i]);
      object["size"] = page.sizes[i];
      text += (first ? "" : ",") + json::serialize(object);
      first = false;
    } else if (context.args.Switch("long")) {
      std::string size = std::to_string(page.sizes[i]);
      size.insert(0, size.size() < 11 ? 11 - size.size() : 0, ' ');
      text += size + "  " + PrintableKey(page.keys[i]) + "\n";
    } else {
      text += PrintableKey(page.keys[i]) + "\n";
    }
  }
  return text;
}

// Page by page, so that a pool of millions of keys neither fills memory nor keeps a reader waiting.
int RunLs(Context& context) {
  const Result<int64_t> limit = context.args.Int("limit", 0, INT64_MAX);
  if (!limit.ok()) return context.Fail(limit.status());
  auto client = ConnectFor(context);
  if (!client.ok()) return context.Fail(client.status());
  const std::string prefix = context.args.operands().empty() ? "" : context.args.operands()[0];
  uint64_t left = *limit == 0 ? UINT64_MAX : static_cast<uint64_t>(*limit);
  uint64_t count = 0;
  std::string token;
  bool more = false;
  if (context.json()) context.out.Write("{\"keys\":[");
  do {
    Result<ListPage> page =
        (*client)->List(prefix, token, static_cast<uint32_t>(std::min<uint64_t>(left, 1000)));
    if (!page.ok()) {
      if (context.json()) context.out.Write("],\"error\":true}\n");
      context.err.Write("mmc ls: " + page.status().ToString() + "\n");
      return ExitCodeOf(page.status());
    }
    context.out.Write(PageText(context, *page, count == 0));
    count += page->keys.size();
    left -= std::min<uint64_t>(left, page->keys.size());
    token = std::move(page->next_page_token);
    more = !token.empty();
  } while (more && left > 0 && context.out.error() == 0);
  if (context.json()) {
    context.out.Write("],\"count\":" + std::to_string(count) +
                      ",\"more\":" + (more ? "true" : "false") + "}\n");
  }
  return kExitOk;
}

}  // namespace

std::vector<Command> DataCommands() {
  return {
      {.name = "put",
       .operands = "KEY FILE|-",
       .summary = "store a file, or stdin, under KEY",
       .details = "A key is 1 to 2048 bytes, a value 1 byte to 1 GiB. Values never change: a key\n"
                  "that is there already keeps its value, and put exits 1 unless --exist-ok is\n"
                  "given.",
       .min_operands = 2,
       .max_operands = 2,
       .flags = {{"exist-ok", "", "", "a key that is there already is fine"}},
       .run = RunPut},
      {.name = "get",
       .operands = "KEY [FILE]",
       .summary = "read a value to stdout, or to FILE",
       .details =
           "FILE is replaced only when the whole value is there. Exits 1 when the key is absent.",
       .min_operands = 1,
       .max_operands = 2,
       .run = RunGet},
      {.name = "exists",
       .operands = "KEY...",
       .summary = "say which keys are there; exit 1 when one is absent",
       .min_operands = 1,
       .max_operands = kMaxBatch,
       .run = RunExists},
      {.name = "stat",
       .operands = "KEY...",
       .summary = "show size, lease, pins and replicas of keys; exit 1 when one is absent",
       .min_operands = 1,
       .max_operands = kMaxBatch,
       .run = RunStat},
      {.name = "rm",
       .operands = "KEY... | --prefix P | --all",
       .summary = "remove keys; exit 1 when one was not there",
       .max_operands = kMaxBatch,
       .flags = {{"prefix", "P", "", "remove every key that starts with P"},
                 {"all", "", "", "remove every key"}},
       .run = RunRm},
      {.name = "ls",
       .operands = "[PREFIX]",
       .summary = "list keys",
       .details = "Keys are listed in no promised order. Control characters and bytes that are not "
                  "UTF-8 show as \\xNN.",
       .max_operands = 1,
       .flags = {{"long", "", "", "show sizes in bytes", 'l'},
                 {"limit", "N", "0", "at most N keys; 0: all"}},
       .run = RunLs},
  };
}

}  // namespace mmc::cli
