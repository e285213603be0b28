// What has to be ended before the interpreter goes, in the order in which the parts need each other.
//
// Thread safety: all from any thread. Ownership: the list holds weak references.
#pragma once

#include <memory>

namespace mmc::python {

enum class Rank { kClient, kNode, kMeta };  // ended in this order

class Endable {
 public:
  virtual ~Endable() = default;
  // Idempotent; without the GIL.
  virtual void End() = 0;
};

void NoteLive(Rank rank, const std::shared_ptr<Endable>& what);
// Ends all that lives. Without the GIL.
void EndAll();

}  // namespace mmc::python
