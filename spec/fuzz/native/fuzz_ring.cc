/*
 * Disk requests: the command stream that JavaScript writes, the ring behind it, and a kernel that
 * takes what it likes, transfers parts and fails.
 *
 * uring.c is compiled with `syscall` renamed to `fuzz_syscall`, which is that kernel over a file in
 * memory. It is handed guest memory alone; of a request it sees each byte once, in order; and each
 * request ends once, whole or failed.
 */
#include "harness.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdarg>
#include <cstring>
#include <deque>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../../src/native/io_uring.h"

namespace {

constexpr uint32_t kDepth = 8;
/* Few, so that streams end at the end of their memory, where the sanitizer sees a word too many. */
constexpr uint32_t kCommandWords = 40;

struct Ring {
  uint32_t sq_head, sq_tail, sq_mask, cq_head, cq_tail, cq_mask;
  uint32_t array[kDepth];
  struct io_uring_cqe completions[2 * kDepth];
};

struct Request {
  bool in_flight = false;
  bool counted = false; /* its segments add up to its length, as JavaScript's do */
  uint64_t offset_bytes = 0, length_bytes = 0, done_bytes = 0;
  std::vector<struct iovec> segments;
  int result = 1; /* 1: not decided */
};

FuzzedDataProvider* deciding = nullptr;
Ring* ring = nullptr;
struct io_uring_sqe* entries = nullptr;
std::deque<struct io_uring_sqe> taken;
Request requests[kDepth];

long SetUp(struct io_uring_params* params) {
  int fd = memfd_create("fuzz-ring", MFD_CLOEXEC);
  off_t size = static_cast<off_t>(IORING_OFF_SQES) + 4096;
  MUST(fd >= 0 && ftruncate(fd, size) == 0);
  ring = static_cast<Ring*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  entries = static_cast<struct io_uring_sqe*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQES));
  ring->sq_mask = kDepth - 1;
  ring->cq_mask = 2 * kDepth - 1;
  params->sq_entries = kDepth;
  params->cq_entries = 2 * kDepth;
  params->features = IORING_FEAT_SINGLE_MMAP;
  params->sq_off.head = offsetof(Ring, sq_head);
  params->sq_off.tail = offsetof(Ring, sq_tail);
  params->sq_off.ring_mask = offsetof(Ring, sq_mask);
  params->sq_off.array = offsetof(Ring, array);
  params->cq_off.head = offsetof(Ring, cq_head);
  params->cq_off.tail = offsetof(Ring, cq_tail);
  params->cq_off.ring_mask = offsetof(Ring, cq_mask);
  params->cq_off.cqes = offsetof(Ring, completions);
  return fd;
}

/* Looks at a read or write as it comes in: the rest of its request, and nothing else. */
void CheckTransfer(const struct io_uring_sqe& entry) {
  Request& request = requests[entry.user_data];
  const auto* segments = reinterpret_cast<const struct iovec*>(entry.addr);
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < entry.len; i++) {
    MUST(fuzz::IsGuests(segments[i].iov_base, segments[i].iov_len));
    bytes += segments[i].iov_len;
  }
  if (!request.counted) return;
  MUST(entry.off == request.offset_bytes + request.done_bytes);
  MUST(bytes == request.length_bytes - request.done_bytes);
  uint64_t skip = request.done_bytes;
  size_t next = 0;
  while (next < request.segments.size() && skip >= request.segments[next].iov_len)
    skip -= request.segments[next++].iov_len;
  if (bytes == 0) return;
  while (segments->iov_len == 0)
    segments++;
  MUST(segments->iov_base == static_cast<uint8_t*>(request.segments[next].iov_base) + skip);
}

long Enter(uint32_t offered) {
  // Of an input that is used up, every choice is the first: it goes well.
  if (deciding->ConsumeIntegralInRange(0, 15) == 15) {
    static const int errors[] = {EAGAIN, EBUSY, EINTR};
    errno = deciding->PickValueInArray(errors);
    return -1;
  }
  auto count =
      deciding->ConsumeBool() ? deciding->ConsumeIntegralInRange<uint32_t>(0, offered) : offered;
  for (uint32_t i = 0; i < count; i++) {
    MUST(ring->sq_head != ring->sq_tail);
    uint32_t index = ring->array[ring->sq_head++ & ring->sq_mask];
    MUST(index < kDepth);
    const struct io_uring_sqe& entry = entries[index];
    MUST(entry.user_data < kDepth && requests[entry.user_data].in_flight);
    if (entry.opcode == IORING_OP_READV || entry.opcode == IORING_OP_WRITEV) CheckTransfer(entry);
    taken.push_back(entry);
  }
  return count;
}

/* Ends one call that the kernel has taken. */
void Complete() {
  struct io_uring_sqe entry = taken.front();
  taken.pop_front();
  Request& request = requests[entry.user_data];
  int result = 0;
  bool transfers = entry.opcode == IORING_OP_READV || entry.opcode == IORING_OP_WRITEV;
  uint64_t bytes = 0;
  if (transfers) {
    const auto* segments = reinterpret_cast<const struct iovec*>(entry.addr);
    for (uint32_t i = 0; i < entry.len; i++)
      bytes += segments[i].iov_len;
  }
  switch (deciding->ConsumeIntegralInRange(0, 7)) {
  case 7:
    result = deciding->ConsumeBool() ? -EINTR : -EAGAIN;
    break;
  case 6:
    result = -EIO;
    break;
  case 5:
  case 4:
    result = static_cast<int>(deciding->ConsumeIntegralInRange<uint64_t>(0, bytes));
    break;
  default:
    result = static_cast<int>(bytes);
  }
  if (result >= 0) {
    request.done_bytes += static_cast<uint64_t>(result);
    if (request.done_bytes == request.length_bytes || !transfers)
      request.result = 0;
    else if (result == 0)
      request.result = -EIO;
  } else if (result == -EIO) {
    request.result = result;
  }
  ring->completions[ring->cq_tail++ & ring->cq_mask] = {entry.user_data, result, 0};
}

} // namespace

extern "C" long fuzz_syscall(long number, ...) {
  va_list arguments;
  va_start(arguments, number);
  long result = 0;
  if (number == SYS_io_uring_setup) {
    va_arg(arguments, uint32_t);
    result = SetUp(va_arg(arguments, struct io_uring_params*));
  } else if (number == SYS_io_uring_enter) {
    va_arg(arguments, int);
    result = Enter(va_arg(arguments, uint32_t));
  }
  va_end(arguments);
  return result;
}

namespace fuzz {

namespace {

/* Writes one request; false: it is one that must be refused. */
bool AddRequest(FuzzedDataProvider& data, std::vector<double>& words, bool honest) {
  auto tag = data.ConsumeIntegralInRange<uint32_t>(0, honest ? kDepth - 1 : kDepth);
  auto operation = data.ConsumeIntegralInRange<uint32_t>(0, 3);
  auto count = data.ConsumeIntegralInRange<uint32_t>(operation < 2 ? 1 : 0, operation < 2 ? 5 : 0);
  Request request;
  std::vector<double> ranges;
  bool inside = true;
  for (uint32_t i = 0; i < count; i++) {
    // Not even a double holds more than this exactly.
    uint64_t gpa = honest ? data.ConsumeIntegralInRange<uint64_t>(0, kLowBytes / 2)
                          : Address(data) & ((1ull << 52) - 1);
    uint64_t bytes = honest ? data.ConsumeIntegralInRange<uint64_t>(0, kLowBytes / 2)
                            : Length(data) & ((1ull << 52) - 1);
    inside = inside && IsGuests(gpa, bytes);
    request.length_bytes += bytes;
    request.segments.push_back({Memory().object().mapping()->base() + gpa, bytes});
    ranges.push_back(static_cast<double>(gpa));
    ranges.push_back(static_cast<double>(bytes));
  }
  request.offset_bytes = data.ConsumeIntegralInRange<uint64_t>(0, 1ull << 40);
  request.in_flight = true;
  // As JavaScript counts, or not at all.
  request.counted = honest || data.ConsumeBool();
  uint64_t said = request.counted ? request.length_bytes : data.ConsumeIntegral<uint32_t>();
  double segments = count;
  bool cut = !honest && data.ConsumeIntegralInRange(0, 7) == 7;
  if (cut) segments = data.PickValueInArray({count + 1.0, -1.0, 1e300, double(NAN)});
  for (double word : {double(operation), double(tag), 99.0, double(request.offset_bytes),
                      double(said), 0.0, segments})
    words.push_back(word);
  words.insert(words.end(), ranges.begin(), ranges.end());
  bool fits = words.size() <= kCommandWords;
  bool good = !cut && inside && fits && tag < kDepth && !requests[tag].in_flight;
  if (good) requests[tag] = request;
  return good;
}

void Reap(Wrapped<estalo::IoUring>& object, const Napi::Int32Array& pairs) {
  Napi::Value count = object.Call("reap", {});
  MUST(!Threw());
  for (int i = 0; i < static_cast<int>(count.As<Napi::Number>().DoubleValue()); i++) {
    auto tag = static_cast<uint32_t>(pairs.Data()[2 * i]);
    MUST(tag < kDepth && requests[tag].in_flight);
    Request& request = requests[tag];
    request.in_flight = false;
    if (request.counted) MUST(request.result == pairs.Data()[2 * i + 1]);
  }
}

} // namespace

void FuzzRing(FuzzedDataProvider& data) {
  deciding = &data;
  taken.clear();
  std::fill(std::begin(requests), std::end(requests), Request{});
  Napi::Float64Array commands = Napi::Float64Array::New({}, kCommandWords);
  Napi::Int32Array pairs = Napi::Int32Array::New({}, 2 * kDepth);
  Wrapped<estalo::IoUring> object({Memory().value(), Number(kDepth), Number(0), commands, pairs});
  MUST(!Threw());
  for (int turn = 0; turn < 16 && data.remaining_bytes() > 0; turn++) {
    bool honest = data.ConsumeBool();
    std::vector<double> words;
    bool good = true;
    for (auto left = data.ConsumeIntegralInRange(0, 4); left > 0 && good; left--)
      good = AddRequest(data, words, honest);
    words.resize(std::min<size_t>(words.size(), kCommandWords));
    std::copy(words.begin(), words.end(), commands.Data());
    object.Call("submit", {Number(static_cast<double>(words.size()))});
    MUST(Threw() == !good);
    for (auto ends = data.ConsumeIntegralInRange<size_t>(0, taken.size()); ends > 0; ends--)
      Complete();
    Reap(object, pairs);
  }
  // Everything ends when the kernel lets it.
  for (int turn = 0; turn < 1000 && (!taken.empty() || ring->sq_head != ring->sq_tail); turn++) {
    object.Call("submit", {Number(0)});
    if (!taken.empty()) Complete();
    Reap(object, pairs);
  }
  MUST(!Threw());
  for (const Request& request : requests)
    MUST(!request.in_flight);
  object.Call("close", {});
  munmap(ring, 4096);
  munmap(entries, 4096);
  deciding = nullptr;
}

} // namespace fuzz
