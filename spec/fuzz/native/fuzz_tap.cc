/*
 * Taps: whatever segments a table names, the kernel is handed guest memory alone and the spare
 * buffer; every frame lies in the buffers that it is said to fill.
 *
 * tap.cc is compiled with its system calls renamed to those here: `open` gives a descriptor of
 * /dev/null, `readv` and `writev` are the interface.
 */
#include "harness.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstring>
#include <fcntl.h>
#include <linux/sockios.h>

#include "../../../src/native/tap.h"

namespace {

constexpr size_t kFrameBytesMax = 65562;
/* Decides what the interface does; set during a call. */
FuzzedDataProvider* deciding = nullptr;
size_t sends = 0;

int Failure() {
  static const int errors[] = {EAGAIN, EIO, EINVAL, EFAULT, ENOBUFS, EBADFD};
  errno = deciding->PickValueInArray(errors);
  return -1;
}

} // namespace

extern "C" {

unsigned int fuzz_if_nametoindex(const char*) {
  return 1;
}

int fuzz_open(const char*, int flags, ...) {
  return open("/dev/null", flags);
}

int fuzz_ioctl(int, unsigned long request, ...) {
  // Nobody else has the interface.
  return request == SIOCETHTOOL ? -1 : 0;
}

ssize_t fuzz_writev(int, const struct iovec* segments, int count) {
  MUST(count >= 0 && count <= IOV_MAX);
  sends++;
  size_t bytes = 0;
  for (int i = 0; i < count; i++) {
    MUST(fuzz::IsGuests(segments[i].iov_base, segments[i].iov_len));
    bytes += segments[i].iov_len;
  }
  return deciding->ConsumeIntegralInRange(0, 7) == 7 ? Failure() : static_cast<ssize_t>(bytes);
}

ssize_t fuzz_readv(int, const struct iovec* segments, int count) {
  MUST(count >= 1 && count <= IOV_MAX);
  size_t room = 0;
  for (int i = 0; i < count; i++) {
    bool spare = i == count - 1;
    MUST(spare || fuzz::IsGuests(segments[i].iov_base, segments[i].iov_len));
    MUST(!spare || segments[i].iov_len == kFrameBytesMax);
    room += segments[i].iov_len;
  }
  if (deciding->ConsumeIntegralInRange(0, 7) == 7) return Failure();
  size_t most = std::min(room, kFrameBytesMax);
  size_t bytes = deciding->ConsumeIntegralInRange<size_t>(0, most);
  for (size_t i = 0, left = bytes; left > 0; i++) {
    size_t part = std::min(left, segments[i].iov_len);
    memset(segments[i].iov_base, 5, part);
    left -= part;
  }
  return static_cast<ssize_t>(bytes);
}

} // extern "C"

namespace fuzz {

namespace {

struct Table {
  Napi::Float64Array addresses;
  Napi::Uint32Array lengths;
  Napi::Uint32Array ends;
  uint32_t chains;

  explicit Table(FuzzedDataProvider& data) : chains(data.ConsumeIntegralInRange<uint32_t>(0, 12)) {
    // Now and then more than one call takes.
    uint32_t most = data.ConsumeIntegralInRange(0, 31) == 0 ? IOV_MAX : 6;
    ends = Napi::Uint32Array::New({}, chains);
    uint32_t segments = 0;
    for (uint32_t i = 0; i < chains; i++) {
      segments += data.ConsumeIntegralInRange<uint32_t>(0, most);
      ends.Data()[i] = segments;
    }
    addresses = Napi::Float64Array::New({}, segments);
    lengths = Napi::Uint32Array::New({}, segments);
    bool honest = data.ConsumeBool();
    for (uint32_t i = 0; i < segments; i++) {
      if (honest) {
        addresses.Data()[i] = data.ConsumeIntegralInRange<uint32_t>(0, kLowBytes / 2);
        lengths.Data()[i] = data.ConsumeIntegralInRange<uint32_t>(0, kLowBytes / 2);
      } else {
        // A guest's 64 bits become a double below 2^53 before any table has them.
        addresses.Data()[i] = static_cast<double>(Address(data) & ((1ull << 53) - 1));
        lengths.Data()[i] = static_cast<uint32_t>(Length(data));
      }
    }
  }

  size_t Bytes(uint32_t chain) const {
    size_t bytes = 0;
    for (uint32_t i = chain == 0 ? 0 : ends.Data()[chain - 1]; i < ends.Data()[chain]; i++)
      bytes += lengths.Data()[i];
    return bytes;
  }
};

void CheckFrames(const Table& table, uint32_t first, size_t count, bool mergeable,
                 const Napi::Uint32Array& bytes, const Napi::Uint16Array& buffers) {
  MUST(count <= std::min(bytes.ElementLength(), buffers.ElementLength()));
  uint32_t chain = first;
  for (size_t frame = 0; frame < count; frame++) {
    uint32_t used = buffers.Data()[frame];
    MUST(mergeable || used <= 1);
    size_t room = 0, before = 0;
    for (uint32_t i = 0; i < used; i++) {
      MUST(chain < table.chains);
      before = room;
      room += table.Bytes(chain++);
    }
    MUST(bytes.Data()[frame] <= room);
    MUST(used == 0 || bytes.Data()[frame] > before);
  }
}

} // namespace

void FuzzTap(FuzzedDataProvider& data) {
  Napi::Int32Array status = Napi::Int32Array::New({}, 2);
  Wrapped<estalo::Tap> tap({Napi::String::New({}, "tap0"), status, Number(0)});
  MUST(!Threw());
  if (data.ConsumeIntegralInRange(0, 15) != 0) tap.Call("connect", {Memory().value()});
  deciding = &data;
  for (int turn = 0; turn < 4 && data.remaining_bytes() > 0; turn++) {
    Table table(data);
    auto first = data.ConsumeIntegralInRange<uint32_t>(0, table.chains);
    auto end = data.ConsumeIntegralInRange<uint32_t>(0, table.chains + 1);
    if (data.ConsumeBool()) {
      sends = 0;
      Napi::Value done = tap.Call(
          "send", {table.addresses, table.lengths, table.ends, Number(first), Number(end)});
      if (Threw()) continue;
      auto count = static_cast<uint32_t>(done.As<Napi::Number>().DoubleValue());
      MUST(first <= end && end <= table.chains && count <= end - first);
      MUST(sends <= count + 1u && status.Data()[0] <= static_cast<int32_t>(count));
    } else {
      auto most = data.ConsumeIntegralInRange<size_t>(0, 8);
      bool mergeable = data.ConsumeBool();
      Napi::Uint32Array bytes = Napi::Uint32Array::New({}, most);
      Napi::Uint16Array buffers = Napi::Uint16Array::New({}, most);
      Napi::Value done =
          tap.Call("receive", {table.addresses, table.lengths, table.ends, Number(first),
                               Number(end), Napi::Boolean::New({}, mergeable), bytes, buffers});
      if (Threw()) continue;
      auto count = static_cast<size_t>(done.As<Napi::Number>().DoubleValue());
      CheckFrames(table, first, count, mergeable, bytes, buffers);
    }
  }
  tap.Call("close", {});
  deciding = nullptr;
}

} // namespace fuzz
