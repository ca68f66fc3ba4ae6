/*
 * Guest memory: anonymous pages at host address base + guest-physical address; base is a multiple
 * of 2 MiB, so that huge pages of the host's are huge pages of the guest's.
 *
 *      base                                  base + 4 GiB
 *        ├── region 0 ──┤░░ PROT_NONE ░░░░░░░░├── region 1 ──┤
 *
 * `GuestMapping` is the mapping itself, shared by the JavaScript object that made it, by the
 * SharedArrayBuffer over it (in any number of isolates) and by io_uring rings; the last one unmaps
 * it. A range may be covered by a private copy of a file instead (MapImage). `close` gives the
 * pages back at once and leaves empty memory in their place, so that a view somebody still holds
 * reads zeros rather than faults. Programs that the process starts do not get it: a guest's pages
 * would be copied when it writes them meanwhile.
 *
 * A region may be pluggable: it is memory where blocks of it are plugged, and else refused by
 * HostAddress. It stays mapped as a whole, so that a view of a block that goes reads zeros as well.
 */
#ifndef ESTALO_GUEST_MEMORY_H
#define ESTALO_GUEST_MEMORY_H

#include <cstdint>
#include <memory>
#include <napi.h>
#include <vector>

namespace estalo {

struct Region {
  uint64_t start;
  uint64_t size_bytes;
  /* 0: all of it is RAM. Else it is plugged in blocks of this size; at most one region is. */
  uint64_t block_bytes;
};

/* Pages that guest memory is of; the numbers are JavaScript's. */
enum class GuestPages {
  /* Small ones, shared. */
  kDefault = 0,
  /* Of 2 MiB where the host has them at hand. */
  kTransparent = 1,
  /* Of 2 MiB, of those that the host reserved (hugetlbfs): all of them, or none. */
  kReserved = 2,
};

class GuestMapping {
public:
  /* Maps `regions`, ascending. Null and errno on failure; ENOMEM: too few pages are reserved. */
  static std::shared_ptr<GuestMapping> Create(const std::vector<Region>& regions, GuestPages pages);
  ~GuestMapping();
  GuestMapping(const GuestMapping&) = delete;
  GuestMapping& operator=(const GuestMapping&) = delete;

  /* The one place where a guest-physical range becomes a host pointer; null unless inside one
   * region, and plugged there. */
  void* HostAddress(uint64_t gpa, uint64_t size_bytes) const;
  /*
   * Puts a private copy of a sealed file at `gpa`: pages are shared with the file until the guest
   * writes them. False and errno on failure; EINVAL unless it is whole pages inside one region.
   */
  bool MapImage(int fd, uint64_t size_bytes, uint64_t gpa);
  /* Gives the pages back; idempotent. */
  void Discard();
  /* Gives back the pages of a range in one region, whole pages, of reserved ones those that lie in
   * it whole; false and errno on failure. They read as they did at the start from then on. */
  bool Reclaim(uint64_t gpa, uint64_t size_bytes);
  /* Plugs or unplugs whole blocks of the pluggable region; false when it is not that. */
  bool SetPlugged(uint64_t gpa, uint64_t size_bytes, bool plugged);
  /* As Reclaim, for whole blocks whether plugged or not; EINVAL when it is not that. */
  bool DiscardBlocks(uint64_t gpa, uint64_t size_bytes);

  uint8_t* base() const {
    return base_;
  }
  uint64_t end() const {
    return end_;
  }
  const std::vector<Region>& regions() const {
    return regions_;
  }

private:
  GuestMapping(std::vector<Region> regions, GuestPages pages, void* reserved,
               uint64_t reserved_bytes);
  /* Where MapImage has put a file, guest-physical. */
  struct Image {
    uint64_t start;
    uint64_t end;
  };

  /* A call for each part between and below images: a guest chooses the range. */
  bool GiveBack(uint64_t start, uint64_t end);
  /* The pluggable region, when the range is whole blocks in it; else null. */
  const Region* Blocks(uint64_t gpa, uint64_t size_bytes) const;
  bool IsPlugged(const Region& region, uint64_t gpa, uint64_t size_bytes) const;

  std::vector<Region> regions_;
  const GuestPages pages_;
  /* Address space, of which guest memory begins at base_. */
  void* const reserved_;
  const uint64_t reserved_bytes_;
  uint8_t* base_;
  uint64_t end_;
  bool discarded_ = false;
  std::vector<Image> images_;
  /* One for each block of the pluggable region. */
  std::vector<bool> plugged_;
};

/*
 * new GuestMapping([{start, sizeBytes, blockBytes?}], pages): buffer, mapImage(ImageFile, gpa),
 * reclaim(…), setPlugged(gpa, sizeBytes, plugged), discard(gpa, sizeBytes), close().
 * Thread: the supervisor's.
 */
class GuestMappingObject : public Napi::ObjectWrap<GuestMappingObject> {
public:
  static Napi::Function Define(Napi::Env env);
  explicit GuestMappingObject(const Napi::CallbackInfo& info);
  ~GuestMappingObject() override;
  const std::shared_ptr<GuestMapping>& mapping() const {
    return mapping_;
  }

private:
  Napi::Value Buffer(const Napi::CallbackInfo& info);
  void MapImage(const Napi::CallbackInfo& info);
  /* reclaim(starts, lengths, count): bytes that were given back. */
  Napi::Value Reclaim(const Napi::CallbackInfo& info);
  void SetPlugged(const Napi::CallbackInfo& info);
  void Discard(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  std::shared_ptr<GuestMapping> mapping_;
};

} // namespace estalo

#endif
