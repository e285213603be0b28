// A process that serves one segment (1, epoch 1, 64 MiB): region_server TRANSPORT ADDRESS. Prints the address it got,
// then serves until its standard input ends.
#include <unistd.h>

#include <cstdio>

#include "common/base/bytes.h"
#include "fabric/memory.h"
#include "fabric/transport.h"

int main(int argc, char** argv) {
  using namespace mmc::fabric;
  Transport* const transport = argc == 3 ? FindTransport(argv[1]) : nullptr;
  if (transport == nullptr) {
    std::fprintf(stderr, "usage: region_server TRANSPORT ADDRESS\n");
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
