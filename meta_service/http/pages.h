// The pages, one function each.
//
// Thread safety: pure functions of the pool they are shown.
#pragma once

#include "meta_service/http/router.h"

namespace mmc::meta::http {

struct PageContext {
  PoolView& pool;
  const PageInfo& info;
  const Target& target;
  int64_t unix_seconds;
  std::optional<std::string> tenant;  // that the page is about; nothing: none is named, all may be seen
};

using Page = Response (*)(const PageContext&);

struct PageRow {
  Page page = nullptr;  // null: there is no such page
  Access needs = Access::kNone;
};
PageRow FindPage(std::string_view path);

}  // namespace mmc::meta::http
