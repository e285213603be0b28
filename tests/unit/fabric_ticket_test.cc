// Goal: a ticket is good for what it was sealed for, for him who got it, until its end, and for nothing else.
#include "fabric/ticket.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>

namespace mmc::fabric {
namespace {

using security::Identity;
using security::Role;

const TimePoint kStart = TimePoint(std::chrono::seconds(1000));

TEST(Ticket, ASealIsForAllThatItCovers) {
  const TicketKey key = NewTicketKey();
  const TicketScope scope{.holder = HolderOf({.role = Role::kClient, .tenant = "a", .subject = "CN=app"}),
                          .session = 7,
                          .region = {1, 2},
                          .direction = Direction::kRead};
  Ticket ticket{.offset = 4096, .length = 100, .end_ms = 5000};
  ASSERT_TRUE(SealTicket(key, scope, &ticket));
  EXPECT_TRUE(TicketHolds(key, scope, ticket));
  const std::function<void(TicketScope*, Ticket*)> changes[] = {
      [](TicketScope* s, Ticket*) { s->holder[0] ^= 1; },
      [](TicketScope* s, Ticket*) { s->holder[1] ^= uint64_t{1} << 63; },
      [](TicketScope* s, Ticket*) { s->session = 8; },
      [](TicketScope* s, Ticket*) { s->region.segment = 2; },
      [](TicketScope* s, Ticket*) { s->region.epoch = 3; },
      [](TicketScope* s, Ticket*) { s->direction = Direction::kWrite; },
      [](TicketScope*, Ticket* t) { t->offset -= 1; },
      [](TicketScope*, Ticket* t) { t->length += 1; },
      [](TicketScope*, Ticket* t) { t->end_ms += 1; },
      [](TicketScope*, Ticket* t) { t->seal[0] ^= 1; },
      [](TicketScope*, Ticket* t) { t->seal[1] ^= uint64_t{1} << 63; },
      [](TicketScope*, Ticket* t) { t->seal = {}; },
  };
  for (const auto& change : changes) {
    TicketScope other = scope;
    Ticket forged = ticket;
    change(&other, &forged);
    EXPECT_FALSE(TicketHolds(key, other, forged)) << &change - changes;
  }
  EXPECT_FALSE(TicketHolds(NewTicketKey(), scope, ticket));
}

TEST(Ticket, WithoutAKeyNothingHolds) {
  Ticket ticket{.offset = 0, .length = 1, .end_ms = 1};
  EXPECT_FALSE(SealTicket({}, {}, &ticket));
  EXPECT_FALSE(TicketHolds({}, {}, ticket));
  EXPECT_EQ(NodeTicketKey({}, "node"), TicketKey{});
}

TEST(Ticket, EachNodeHasAKeyOfItsOwn) {
  const TicketKey secret = NewTicketKey();
  EXPECT_EQ(NodeTicketKey(secret, "a"), NodeTicketKey(secret, "a"));
  EXPECT_NE(NodeTicketKey(secret, "a"), NodeTicketKey(secret, "b"));
  EXPECT_NE(NodeTicketKey(secret, "a"), NodeTicketKey(NewTicketKey(), "a"));
  EXPECT_NE(NodeTicketKey(secret, ""), secret);
}

TEST(Ticket, HoldersDifferByEachPartOfTheirCertificate) {
  const Identity one{.role = Role::kClient, .tenant = "a", .name = "", .subject = "CN=b"};
  EXPECT_EQ(HolderOf(one), HolderOf(one));
  const Identity others[] = {{.role = Role::kAdmin, .tenant = "a", .name = "", .subject = "CN=b"},
                             {.role = Role::kClient, .tenant = "", .name = "", .subject = "CN=b"},
                             {.role = Role::kClient, .tenant = "a", .name = "n", .subject = "CN=b"},
                             {.role = Role::kClient, .tenant = "a", .name = "", .subject = "CN=c"},
                             {.role = Role::kClient, .tenant = "aC", .name = "", .subject = "N=b"}};
  for (const Identity& other : others) EXPECT_NE(HolderOf(one), HolderOf(other)) << other.subject;
}

TEST(Ticket, CoversItsRunAndNotAByteMore) {
  const Ticket ticket{.offset = 100, .length = 50};
  EXPECT_TRUE(TicketCovers(ticket, 100, 50));
  EXPECT_TRUE(TicketCovers(ticket, 149, 1));
  EXPECT_FALSE(TicketCovers(ticket, 99, 2));
  EXPECT_FALSE(TicketCovers(ticket, 100, 51));
  EXPECT_FALSE(TicketCovers(ticket, 149, 2));
  EXPECT_FALSE(TicketCovers(ticket, 151, 1));
  EXPECT_FALSE(TicketCovers(ticket, 120, std::numeric_limits<uint64_t>::max()));
  EXPECT_FALSE(TicketCovers(ticket, std::numeric_limits<uint64_t>::max(), 2));
}

TEST(TicketJudge, TellsEndsOnItsOwnClockAndNeverLate) {
  TicketJudge judge;
  // The other clock showed 5,000 ms at some time after the question was sent: it may show more now, never less.
  judge.LearnClock(5000, kStart);
  EXPECT_EQ(judge.EndOf({.end_ms = 5000}), kStart);
  EXPECT_EQ(judge.EndOf({.end_ms = 7500}), kStart + std::chrono::milliseconds(2500));
  EXPECT_EQ(judge.EndOf({.end_ms = 0}), kStart - std::chrono::milliseconds(5000));
  judge.LearnClock(9000, kStart + std::chrono::seconds(3));  // it runs faster, or was another one's
  EXPECT_EQ(judge.EndOf({.end_ms = 9000}), kStart + std::chrono::seconds(3));
}

TEST(TicketJudge, TheKeyIsTakenOverOnceForEachNewOne) {
  TicketJudge judge;
  uint64_t version = 0;
  TicketKey key{};
  EXPECT_FALSE(judge.Refresh(&version, &key));
  const TicketKey first = NewTicketKey();
  judge.LearnKey(first);
  EXPECT_TRUE(judge.Refresh(&version, &key));
  EXPECT_EQ(key, first);
  const uint64_t seen = version;
  judge.LearnKey(first);
  EXPECT_TRUE(judge.Refresh(&version, &key));
  EXPECT_EQ(version, seen);
  const TicketKey second = NewTicketKey();
  judge.LearnKey(second);
  EXPECT_TRUE(judge.Refresh(&version, &key));
  EXPECT_EQ(key, second);
}

}  // namespace
}  // namespace mmc::fabric
