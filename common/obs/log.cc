#include "common/obs/log.h"

#include <filesystem>
#include <memory>
#include <system_error>

#include "common/obs/rotating_file.h"

namespace mmc::obs {

std::atomic<bool> g_logs_on{false};
std::atomic<bool> g_debug_on{false};

namespace {

// glog hands every message to the logger of its severity and of all lower ones: INFO's sees all.
class FileLogger final : public google::base::Logger {
 public:
  explicit FileLogger(std::unique_ptr<RotatingFile> file) : file_(std::move(file)) {}
  void Write(bool, time_t, const char* message, size_t length) override {
    file_->Write(std::string_view(message, length));
  }
  void Flush() override {}
  google::uint32 LogSize() override { return 0; }

 private:
  std::unique_ptr<RotatingFile> file_;
};

class NoLogger final : public google::base::Logger {
 public:
  void Write(bool, time_t, const char*, size_t) override {}
  void Flush() override {}
  google::uint32 LogSize() override { return 0; }
};

int MinSeverity(const std::string& level) {
  if (level == "warn") return google::GLOG_WARNING;
  if (level == "error") return google::GLOG_ERROR;
  return google::GLOG_INFO;
}

}  // namespace

Status InitLogging(const LogOptions& options) {
  FLAGS_minloglevel = MinSeverity(options.level);
  FLAGS_v = options.level == "debug" ? 1 : 0;
  if (options.directory.empty()) {
    FLAGS_logtostderr = true;
  } else {
    MMC_ASSIGN_OR_RETURN(std::unique_ptr<RotatingFile> file,
                         RotatingFile::Open(options.directory, options.name, options.file_bytes,
                                            options.file_count));
    FLAGS_logtostderr = false;
    FLAGS_alsologtostderr = false;
    FLAGS_stderrthreshold = google::GLOG_FATAL;
    // glog keeps the loggers until the process ends.
    google::base::SetLogger(google::GLOG_INFO, new FileLogger(std::move(file)));
    for (const int severity : {google::GLOG_WARNING, google::GLOG_ERROR, google::GLOG_FATAL}) {
      google::base::SetLogger(severity, new NoLogger());
    }
  }
  // glog keeps the pointer for the life of the process.
  static const std::string* const name = new std::string(options.name);
  google::InitGoogleLogging(name->c_str());
  g_debug_on = options.level == "debug";
  g_logs_on = true;
  return Status::Ok();
}

std::string LogDirectory(const std::string& path) {
  if (path.empty()) return "";
  std::filesystem::path base(path);
  if (base.is_relative()) {
    std::error_code error;
    const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
    base =
        (error ? std::filesystem::current_path(error) : program.parent_path().parent_path()) / base;
  }
  return (base / "logs").lexically_normal().string();
}

}  // namespace mmc::obs
