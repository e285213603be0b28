#include "meta_service/ops/waiters.h"

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

namespace mmc::meta {

namespace asio = boost::asio;

void WaitQueue::Park(uint64_t ticket, TimePoint deadline, std::function<void()> resume) {
  {
    MutexLock lock(mutex_);
    waiting_.fetch_add(
        1);  // before the look at wakes_: Wake() bumps it before its look at waiting_
    if (!closed_ && wakes_.load() == ticket) {
      waiters_.push_back({deadline, std::move(resume)});
      return;
    }
    waiting_.fetch_sub(1);
  }
  resume();
}

asio::awaitable<void> WaitQueue::Wait(uint64_t ticket, TimePoint deadline) {
  co_await asio::async_initiate<const asio::use_awaitable_t<>, void()>(
      [this, ticket, deadline](auto handler) {
        auto shared = std::make_shared<decltype(handler)>(std::move(handler));
        auto executor = asio::get_associated_executor(*shared);
        Park(ticket, deadline,
             [shared, executor] { asio::post(executor, [shared] { std::move (*shared)(); }); });
      },
      asio::use_awaitable);
}

std::vector<WaitQueue::Waiter> WaitQueue::TakeAll() {
  MutexLock lock(mutex_);
  waiting_.fetch_sub(waiters_.size());
  return std::exchange(waiters_, {});
}

void WaitQueue::Wake() {
  wakes_.fetch_add(1);
  if (waiting_.load() == 0) return;
  for (Waiter& waiter : TakeAll()) waiter.resume();
}

void WaitQueue::Expire(TimePoint now) {
  if (waiting_.load() == 0) return;
  std::vector<Waiter> over;
  {
    MutexLock lock(mutex_);
    for (size_t i = 0; i < waiters_.size();) {
      if (waiters_[i].deadline > now) {
        ++i;
        continue;
      }
      over.push_back(std::move(waiters_[i]));
      if (i + 1 < waiters_.size()) waiters_[i] = std::move(waiters_.back());
      waiters_.pop_back();
    }
    waiting_.fetch_sub(over.size());
  }
  for (Waiter& waiter : over) waiter.resume();
}

void WaitQueue::Close() {
  {
    MutexLock lock(mutex_);
    closed_ = true;
  }
  for (Waiter& waiter : TakeAll()) waiter.resume();
}

void Waiters::Expire(TimePoint now) {
  space_.Expire(now);
  keys_.Expire(now);
  for (WaitQueue& queue : feeds_) queue.Expire(now);
  for (WaitQueue& queue : acked_) queue.Expire(now);
}

void Waiters::Close() {
  closed_.store(true);
  space_.Close();
  keys_.Close();
  for (WaitQueue& queue : feeds_) queue.Close();
  for (WaitQueue& queue : acked_) queue.Close();
}

}  // namespace mmc::meta
