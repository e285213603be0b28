// The pages that empty a node: the only ones that change something.
//
//   POST /api/v1/drain_jobs?node=NAME         or the body {"segments": ["NAME-dram"]}; all segments of that node drain
//   GET  /api/v1/drain_jobs/query?job_id=NAME
//   POST /api/v1/drain_jobs/cancel?job_id=NAME
//
// A job is called after its node: there is one per node; it outlives a restart of the meta service that keeps a
// members file.
//
// Thread safety: pure functions of the pool they are shown.
#pragma once

#include "meta_service/http/router.h"

namespace mmc::meta::http {

bool IsDrainJobPath(std::string_view path);
// REQUIRES: IsDrainJobPath(path). kAdmin, except for the page that only looks.
Access DrainJobAccess(std::string_view path);
// REQUIRES: IsDrainJobPath(target.path).
Response DrainJobPage(PoolView& pool, const Request& request, const Target& target);

}  // namespace mmc::meta::http
