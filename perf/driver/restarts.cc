// Restarts as a client sees them: a pool is filled, a process of it killed and started again by the caller, and the
// time taken until one value is read again, and until all can be.
#include <algorithm>
#include <iostream>
#include <random>
#include <thread>
#include <vector>

#include "common/base/thread.h"
#include "client_sdk/include/mmc/client.h"
#include "perf/driver/series.h"

namespace mmc::perf {
namespace {

constexpr size_t kValueBytes = 4096;
constexpr size_t kFillBatch = 512;
constexpr size_t kCheckBatch = 8192;

std::string KeyOf(uint64_t number) { return "restart/0123456789abcdef/" + std::to_string(number); }

// A value that says which key it belongs to.
void FillValue(uint64_t number, std::string* value) {
  value->resize(kValueBytes);
  for (size_t i = 0; i < kValueBytes; i += 8) {
    const uint64_t word = number * 0x9E3779B97F4A7C15ULL + i;
    value->replace(i, 8, reinterpret_cast<const char*>(&word), 8);
  }
}

Status Fill(Client& client, uint64_t first, uint64_t count) {
  std::vector<std::string> keys(kFillBatch), values(kFillBatch);
  for (uint64_t at = first; at < first + count; at += kFillBatch) {
    const size_t n = std::min<uint64_t>(kFillBatch, first + count - at);
    std::vector<ConstBuffer> buffers(n);
    std::vector<PutItem> items;
    for (size_t i = 0; i < n; ++i) {
      keys[i] = KeyOf(at + i);
      FillValue(at + i, &values[i]);
      buffers[i] = {values[i].data(), values[i].size()};
      items.push_back({keys[i], {&buffers[i], 1}});
    }
    for (const Status& status : client.Put(items)) {
      if (!status.ok()) return status;
    }
  }
  return Status::Ok();
}

// One value, byte for byte. Errors: kCorrupt.
Status ReadOne(Client& client, uint64_t number) {
  std::string value(kValueBytes, 0), expected;
  FillValue(number, &expected);
  const Buffer buffer{value.data(), value.size()};
  const std::string key = KeyOf(number);
  const GetItem item{key, {&buffer, 1}};
  const Status status = client.GetInto({&item, 1}).front().status;
  if (!status.ok()) return status;
  return value == expected ? Status::Ok() : Status(Code::kCorrupt, "key " + key + " has other bytes");
}

Status CheckAll(Client& client, uint64_t objects) {
  std::vector<std::string> keys(kCheckBatch);
  for (uint64_t at = 0; at < objects; at += kCheckBatch) {
    const size_t n = std::min<uint64_t>(kCheckBatch, objects - at);
    std::vector<std::string_view> views;
    for (size_t i = 0; i < n; ++i) views.push_back(keys[i] = KeyOf(at + i));
    MMC_ASSIGN_OR_RETURN(const auto present, client.Exists(views));
    if (std::count(present.begin(), present.end(), 1) != static_cast<std::ptrdiff_t>(n)) {
      return Status(Code::kNotFound, "objects are missing between " + keys[0] + " and " + keys[n - 1]);
    }
  }
  return Status::Ok();
}

}  // namespace

// --meta URL --objects N. Fills the pool, prints a line to stderr, and waits for one on stdin: that the process is
// killed and being started again, with the time of the kill (seconds, CLOCK_MONOTONIC). More lines, more restarts.
Status RunRestarts(const Flags& flags, Series* out) {
  ClientOptions options;
  options.meta_url = flags.Text("meta", "tcp://127.0.0.1:5000");
  options.name = "restarts";
  MMC_ASSIGN_OR_RETURN(const std::shared_ptr<Client> client, Client::Connect(options));
  const uint64_t objects = flags.Int("objects", 1'000'000);
  MMC_RETURN_IF_ERROR(Fill(*client, 0, objects));
  std::mt19937_64 dice(3);
  for (uint64_t i = 0; i < 1000; ++i) MMC_RETURN_IF_ERROR(ReadOne(*client, dice() % objects));
  std::cerr << "filled" << std::endl;
  const auto now = [] { return std::chrono::duration<double>(Clock::Real().Now().time_since_epoch()).count(); };
  for (double killed = 0; std::cin >> killed;) {
    MMC_RETURN_IF_ERROR(ReadOne(*client, dice() % objects));
    out->Add("first_get_seconds", now() - killed);
    std::vector<double> taken;  // of single reads until all are there
    for (;;) {
      MMC_ASSIGN_OR_RETURN(const ClusterStatus status, client->Cluster());
      if (status.objects >= objects) break;
      for (int i = 0; i < 20; ++i) {
        const TimePoint start = Clock::Real().Now();
        MMC_RETURN_IF_ERROR(ReadOne(*client, dice() % objects));
        taken.push_back(SecondsSince(start) * 1e6);
      }
    }
    out->Add("all_readable_seconds", now() - killed);
    std::sort(taken.begin(), taken.end());
    if (!taken.empty()) out->Add("get_p99_meanwhile_us", taken[taken.size() * 99 / 100]);
    MMC_RETURN_IF_ERROR(CheckAll(*client, objects));
    for (uint64_t i = 0; i < 2000; ++i) MMC_RETURN_IF_ERROR(ReadOne(*client, dice() % objects));
    std::cerr << "checked" << std::endl;
  }
  return Status::Ok();
}

}  // namespace mmc::perf
