/*
 * Guest memory: one memfd, mapped once, at host address base + guest-physical address.
 *
 *      base                                  base + 4 GiB
 *        ├── region 0 ──┤░░ PROT_NONE ░░░░░░░░├── region 1 ──┤
 *
 * `GuestMapping` is the mapping itself, shared by the JavaScript object that made it, by the
 * SharedArrayBuffer over it (in any number of isolates) and by io_uring rings; the last one unmaps
 * it. A range may be covered by a private copy of a file instead of the memfd (MapImage). `close`
 * gives the pages back at once and leaves empty anonymous memory in their place, so that a view
 * somebody still holds reads zeros rather than faults.
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
};

class GuestMapping {
public:
  /* Maps `regions`, ascending. Null and errno on failure. */
  static std::shared_ptr<GuestMapping> Create(const std::vector<Region>& regions, bool huge_pages);
  ~GuestMapping();
  GuestMapping(const GuestMapping&) = delete;
  GuestMapping& operator=(const GuestMapping&) = delete;

  /* The one place where a guest-physical range becomes a host pointer; null unless inside one
   * region. */
  void* HostAddress(uint64_t gpa, uint64_t size_bytes) const;
  /*
   * Puts a private copy of a sealed file at `gpa`: pages are shared with the file until the guest
   * writes them. False and errno on failure; EINVAL unless it is whole pages inside one region.
   */
  bool MapImage(int fd, uint64_t size_bytes, uint64_t gpa);
  /* Gives the pages back; idempotent. */
  void Discard();
  /* Gives back the pages of a range in one region, whole pages; false and errno on failure. They
   * read zeros from then on. */
  bool Reclaim(uint64_t gpa, uint64_t size_bytes);

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
  GuestMapping(std::vector<Region> regions, int fd, uint8_t* base, uint64_t end);

  std::vector<Region> regions_;
  int fd_;
  uint8_t* base_;
  uint64_t end_;
};

/*
 * new GuestMapping([{start, sizeBytes}], hugePages): buffer, mapImage(ImageFile, gpa), close().
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
  void Close(const Napi::CallbackInfo& info);

  std::shared_ptr<GuestMapping> mapping_;
};

} // namespace estalo

#endif
