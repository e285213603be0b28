// A process that serves one segment (1, epoch 1, 64 MiB): region_server TRANSPORT ADDRESS [CERTIFICATES], under TLS
// with a folder of certificates. Prints the address it got,
// then serves until its standard input ends.
#include <unistd.h>

#include <cstdio>
#include <string>

#include "common/base/bytes.h"
#include "fabric/memory.h"
#include "fabric/transport.h"

int main(int argc, char** argv) {
  using namespace mmc::fabric;
  Transport* const transport = argc == 3 || argc == 4 ? FindTransport(argv[1]) : nullptr;
  if (transport == nullptr) {
    std::fprintf(stderr, "usage: region_server TRANSPORT ADDRESS [CERTIFICATES]\n");
    return 2;
  }
  const uint64_t size = mmc::operator""_MiB(64);
  auto memory = SegmentMemory::Create({.name = "region_server", .size = size, .prefault = false});
  RegionTable regions;
  if (!memory.ok() ||
      !regions.Add({{1, 1}, {(*memory)->data(), size}, Access::kReadWrite, MemoryKind::kHost, *memory}).ok()) {
    std::fprintf(stderr, "region_server: %s\n", memory.status().ToString().c_str());
    return 1;
  }
  ListenOptions options;
  options.address = argv[2];
  if (argc == 4) {
    const std::string folder = argv[3];
    mmc::security::TlsOptions tls;
    tls.enable = true;
    tls.ca_path = folder + "/ca.cert.pem";
    tls.crl_path = folder + "/ca.crl.pem";
    tls.cert_path = folder + "/local.cert.pem";
    tls.key_path = folder + "/local.key.pem";
    auto context = mmc::security::TlsContext::Load(tls);
    if (!context.ok()) {
      std::fprintf(stderr, "region_server: %s\n", context.status().ToString().c_str());
      return 1;
    }
    options.tls = *context;
  }
  auto listener = transport->Listen(options, regions);
  if (!listener.ok()) {
    std::fprintf(stderr, "region_server: %s\n", listener.status().ToString().c_str());
    return 1;
  }
  std::printf("%s\n", (*listener)->endpoint().address.c_str());
  std::fflush(stdout);
  char byte = 0;
  while (read(0, &byte, 1) > 0) {
  }
  return 0;
}
