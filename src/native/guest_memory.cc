/* Guest memory; see guest_memory.h. */
#include "guest_memory.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <sys/mman.h>
#include <unistd.h>
#include <v8.h>

#include "image_file.h"
#include "native_error.h"

namespace estalo {

namespace {
constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kHugePageBytes = 2 << 20;

uint64_t AlignUp(uint64_t value, uint64_t grain) {
  return (value + grain - 1) / grain * grain;
}

/* Empty memory for a region. */
bool MapRegion(void* at, uint64_t size_bytes, GuestPages pages) {
  // What is reserved is taken here, and not when the guest touches it: that would be a SIGBUS.
  // Shared pages are never the zero page, which a first write would replace in KVM's tables;
  // private ones can be huge.
  int kind = MAP_SHARED | MAP_NORESERVE;
  if (pages == GuestPages::kTransparent) kind = MAP_PRIVATE | MAP_NORESERVE;
  if (pages == GuestPages::kReserved) kind = MAP_PRIVATE | MAP_HUGETLB;
  if (mmap(at, size_bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_FIXED | kind, -1, 0) ==
      MAP_FAILED) {
    return false;
  }
  // A core dump of the monitor is about the monitor; the other is said in the header.
  madvise(at, size_bytes, MADV_DONTDUMP);
  madvise(at, size_bytes, MADV_DONTFORK);
  // A host without them has small ones.
  if (pages == GuestPages::kTransparent) madvise(at, size_bytes, MADV_HUGEPAGE);
  return true;
}
} // namespace

GuestMapping::GuestMapping(std::vector<Region> regions, GuestPages pages, void* reserved,
                           uint64_t reserved_bytes)
    : regions_(std::move(regions)), pages_(pages), reserved_(reserved),
      reserved_bytes_(reserved_bytes), base_(reinterpret_cast<uint8_t*>(AlignUp(
                                           reinterpret_cast<uintptr_t>(reserved), kHugePageBytes))),
      end_(regions_.back().start + regions_.back().size_bytes) {
  for (const Region& region : regions_) {
    if (region.block_bytes != 0) plugged_.resize(region.size_bytes / region.block_bytes);
  }
}

std::shared_ptr<GuestMapping> GuestMapping::Create(const std::vector<Region>& regions,
                                                   GuestPages pages) {
  uint64_t end = regions.back().start + regions.back().size_bytes;
  uint64_t reserved_bytes = end + kHugePageBytes;
  void* reserved =
      mmap(nullptr, reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return nullptr;
  auto mapping =
      std::shared_ptr<GuestMapping>(new GuestMapping(regions, pages, reserved, reserved_bytes));
  for (const Region& region : regions) {
    if (!MapRegion(mapping->base_ + region.start, region.size_bytes, pages)) return nullptr;
  }
  return mapping;
}

GuestMapping::~GuestMapping() {
  munmap(reserved_, reserved_bytes_);
}

void* GuestMapping::HostAddress(uint64_t gpa, uint64_t size_bytes) const {
  for (const Region& region : regions_) {
    if (gpa >= region.start && gpa - region.start <= region.size_bytes &&
        size_bytes <= region.size_bytes - (gpa - region.start)) {
      return region.block_bytes == 0 || IsPlugged(region, gpa, size_bytes) ? base_ + gpa : nullptr;
    }
  }
  return nullptr;
}

bool GuestMapping::IsPlugged(const Region& region, uint64_t gpa, uint64_t size_bytes) const {
  uint64_t first = (gpa - region.start) / region.block_bytes;
  uint64_t end = gpa - region.start + (size_bytes == 0 ? 1 : size_bytes);
  for (uint64_t block = first; block * region.block_bytes < end; block++) {
    if (block >= plugged_.size() || !plugged_[block]) return false;
  }
  return true;
}

const Region* GuestMapping::Blocks(uint64_t gpa, uint64_t size_bytes) const {
  for (const Region& region : regions_) {
    if (region.block_bytes == 0 || gpa < region.start) continue;
    uint64_t offset = gpa - region.start;
    if (offset <= region.size_bytes && size_bytes <= region.size_bytes - offset &&
        offset % region.block_bytes == 0 && size_bytes % region.block_bytes == 0) {
      return &region;
    }
  }
  return nullptr;
}

bool GuestMapping::SetPlugged(uint64_t gpa, uint64_t size_bytes, bool plugged) {
  const Region* region = Blocks(gpa, size_bytes);
  if (region == nullptr) return false;
  uint64_t first = (gpa - region->start) / region->block_bytes;
  for (uint64_t i = 0; i < size_bytes / region->block_bytes; i++)
    plugged_[first + i] = plugged;
  return true;
}

bool GuestMapping::DiscardBlocks(uint64_t gpa, uint64_t size_bytes) {
  if (discarded_ || Blocks(gpa, size_bytes) == nullptr) {
    errno = EINVAL;
    return false;
  }
  return size_bytes == 0 || GiveBack(gpa, gpa + size_bytes);
}

bool GuestMapping::MapImage(int fd, uint64_t size_bytes, uint64_t gpa) {
  void* at = HostAddress(gpa, size_bytes);
  if (discarded_ || at == nullptr || gpa % kPageBytes != 0 || size_bytes % kPageBytes != 0) {
    errno = EINVAL;
    return false;
  }
  if (mmap(at, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd,
           0) == MAP_FAILED) {
    return false;
  }
  madvise(at, size_bytes, MADV_DONTDUMP);
  madvise(at, size_bytes, MADV_DONTFORK);
  images_.push_back({gpa, gpa + size_bytes});
  return true;
}

void GuestMapping::Discard() {
  if (discarded_) return;
  discarded_ = true;
  // What is left costs nothing until touched. Images go with the mappings that these replace.
  for (const Region& region : regions_)
    MapRegion(base_ + region.start, region.size_bytes, GuestPages::kDefault);
}

bool GuestMapping::Reclaim(uint64_t gpa, uint64_t size_bytes) {
  if (discarded_ || HostAddress(gpa, size_bytes) == nullptr || gpa % kPageBytes != 0 ||
      size_bytes % kPageBytes != 0) {
    errno = EINVAL;
    return false;
  }
  uint64_t grain = pages_ == GuestPages::kReserved ? kHugePageBytes : kPageBytes;
  uint64_t start = AlignUp(gpa, grain);
  uint64_t end = (gpa + size_bytes) / grain * grain;
  return start >= end || GiveBack(start, end);
}

bool GuestMapping::GiveBack(uint64_t start, uint64_t end) {
  if (pages_ != GuestPages::kDefault) {
    return madvise(base_ + start, end - start, MADV_DONTNEED) == 0;
  }
  for (uint64_t at = start; at < end;) {
    // Up to where a kernel's image begins or ends, which is mapped privately: there is no hole to
    // be made in that.
    uint64_t stop = end;
    int advice = MADV_REMOVE;
    for (const Image& image : images_) {
      if (at < image.start) {
        stop = std::min(stop, image.start);
      } else if (at < image.end) {
        stop = std::min(stop, image.end);
        advice = MADV_DONTNEED;
      }
    }
    if (madvise(base_ + at, stop - at, advice) < 0) return false;
    at = stop;
  }
  return true;
}

Napi::Function GuestMappingObject::Define(Napi::Env env) {
  return DefineClass(env, "GuestMapping",
                     {InstanceAccessor<&GuestMappingObject::Buffer>("buffer"),
                      InstanceMethod<&GuestMappingObject::MapImage>("mapImage"),
                      InstanceMethod<&GuestMappingObject::Reclaim>("reclaim"),
                      InstanceMethod<&GuestMappingObject::SetPlugged>("setPlugged"),
                      InstanceMethod<&GuestMappingObject::Discard>("discard"),
                      InstanceMethod<&GuestMappingObject::Close>("close")});
}

namespace {
/* Page tables and mappings that a collected buffer lets go of: V8 cannot see them (its pages went
 * before). */
constexpr int64_t kHeldBytes = 1 << 20;

/* Far above every machine's memory, and exact in a double with room to add. */
constexpr double kMostBytes = 1ull << 52;

/* A whole number of pages from `least` on; negated comparisons, so that NaN is none. */
bool IsPages(double value, double least) {
  return value >= least && value <= kMostBytes &&
         std::fmod(value, static_cast<double>(kPageBytes)) == 0;
}
} // namespace

GuestMappingObject::GuestMappingObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<GuestMappingObject>(info) {
  Napi::Env env = info.Env();
  Napi::MemoryManagement::AdjustExternalMemory(env, kHeldBytes);
  Napi::Array list = info[0].As<Napi::Array>();
  std::vector<Region> regions;
  double end = 0;
  for (uint32_t i = 0; i < list.Length(); i++) {
    Napi::Object region = list.Get(i).As<Napi::Object>();
    double start = region.Get("start").As<Napi::Number>().DoubleValue();
    double size_bytes = region.Get("sizeBytes").As<Napi::Number>().DoubleValue();
    // Two mappings over each other, or one before the first address, would hit what is not ours.
    if (!IsPages(start, end) || !IsPages(size_bytes, static_cast<double>(kPageBytes))) {
      ThrowBug(env, "regions of guest memory are whole pages, ascending, apart");
      return;
    }
    double block_bytes = 0;
    if (region.Get("blockBytes").IsNumber()) {
      block_bytes = region.Get("blockBytes").As<Napi::Number>().DoubleValue();
      if (!IsPages(block_bytes, static_cast<double>(kPageBytes)) ||
          std::fmod(size_bytes, block_bytes) != 0 || i + 1 != list.Length()) {
        ThrowBug(env, "the last region may be plugged, in whole blocks");
        return;
      }
    }
    end = start + size_bytes;
    regions.push_back({static_cast<uint64_t>(start), static_cast<uint64_t>(size_bytes),
                       static_cast<uint64_t>(block_bytes)});
  }
  if (regions.empty()) {
    ThrowBug(env, "guest memory needs a region");
    return;
  }
  auto pages = GuestPages::kDefault;
  if (info[1].IsNumber()) {
    pages = static_cast<GuestPages>(info[1].As<Napi::Number>().Int32Value());
  }
  mapping_ = GuestMapping::Create(regions, pages);
  if (mapping_ == nullptr) ThrowErrno(env, "mmap guest memory", errno);
}

GuestMappingObject::~GuestMappingObject() {
  Napi::MemoryManagement::AdjustExternalMemory(Env(), -kHeldBytes);
}

Napi::Value GuestMappingObject::Buffer(const Napi::CallbackInfo& info) {
  // Node-API's external buffers stop at 4 GiB and cannot be shared; V8's backing store does both.
  // SAFETY: the deleter's shared_ptr keeps the mapping until no isolate holds the buffer.
  auto* keep = new std::shared_ptr<GuestMapping>(mapping_);
  std::unique_ptr<v8::BackingStore> store = v8::SharedArrayBuffer::NewBackingStore(
      mapping_->base(), mapping_->end(),
      [](void*, size_t, void* data) { delete static_cast<std::shared_ptr<GuestMapping>*>(data); },
      keep);
  v8::Local<v8::Value> buffer =
      v8::SharedArrayBuffer::New(v8::Isolate::GetCurrent(), std::move(store));
  // SAFETY: napi_value is V8's Local in every release of Node; the handle scope is the caller's.
  return Napi::Value(info.Env(), reinterpret_cast<napi_value>(*buffer));
}

void GuestMappingObject::MapImage(const Napi::CallbackInfo& info) {
  ImageFile* image = ImageFile::Unwrap(info[0].As<Napi::Object>());
  int64_t gpa = info[1].As<Napi::Number>().Int64Value();
  if (image->sealed_fd() < 0 || gpa < 0) {
    ThrowBug(info.Env(), "a sealed image and an address");
    return;
  }
  if (!mapping_->MapImage(image->sealed_fd(), image->size_bytes(), static_cast<uint64_t>(gpa))) {
    ThrowErrno(info.Env(), "mmap guest image", errno);
  }
}

Napi::Value GuestMappingObject::Reclaim(const Napi::CallbackInfo& info) {
  auto starts = info[0].As<Napi::Float64Array>();
  auto lengths = info[1].As<Napi::Float64Array>();
  uint32_t count = info[2].As<Napi::Number>().Uint32Value();
  if (count > starts.ElementLength() || count > lengths.ElementLength()) {
    ThrowBug(info.Env(), "the table of ranges is shorter than that");
    return {};
  }
  double freed = 0;
  for (uint32_t i = 0; i < count; i++) {
    double start = starts.Data()[i];
    double bytes = lengths.Data()[i];
    if (!IsPages(start, 0) || !IsPages(bytes, static_cast<double>(kPageBytes))) continue;
    if (mapping_->Reclaim(static_cast<uint64_t>(start), static_cast<uint64_t>(bytes))) {
      freed += bytes;
    }
  }
  return Napi::Number::New(info.Env(), freed);
}

void GuestMappingObject::SetPlugged(const Napi::CallbackInfo& info) {
  double gpa = info[0].As<Napi::Number>().DoubleValue();
  double bytes = info[1].As<Napi::Number>().DoubleValue();
  if (!IsPages(gpa, 0) || !IsPages(bytes, 0) ||
      !mapping_->SetPlugged(static_cast<uint64_t>(gpa), static_cast<uint64_t>(bytes),
                            info[2].ToBoolean())) {
    ThrowBug(info.Env(), "whole blocks of the pluggable region");
  }
}

void GuestMappingObject::Discard(const Napi::CallbackInfo& info) {
  double gpa = info[0].As<Napi::Number>().DoubleValue();
  double bytes = info[1].As<Napi::Number>().DoubleValue();
  if (!IsPages(gpa, 0) || !IsPages(bytes, 0)) {
    ThrowBug(info.Env(), "whole blocks of the pluggable region");
  } else if (!mapping_->DiscardBlocks(static_cast<uint64_t>(gpa), static_cast<uint64_t>(bytes))) {
    ThrowErrno(info.Env(), "madvise guest memory", errno);
  }
}

void GuestMappingObject::Close(const Napi::CallbackInfo&) {
  mapping_->Discard();
}

} // namespace estalo
