// The words for enumerators of the protocol, as people and programs read them: in JSON, pages, metrics and logs.
//
// Thread safety: pure functions. Ownership: none; the texts are constants.
#pragma once

namespace mmc::proto {

// Of a Medium or a NodeState as it came over the wire; "unknown" for a number of a later version.
const char* MediumName(int medium);
const char* NodeStateName(int state);

}  // namespace mmc::proto
