/*
 * One KVM virtual machine: memory slots, interrupt chips, doorbells, interrupt lines, vCPUs.
 * Thread: the supervisor's. It owns the VM's descriptor; the kernel keeps the VM alive while vCPUs'
 * live.
 */
#ifndef ESTALO_VM_H
#define ESTALO_VM_H

#include <napi.h>

#include "file_descriptor.h"
#include "file_mapping.h"
#include "guest_memory.h"

namespace estalo {

/*
 * new Vm(fd): setTssAddr(gpa), setIdentityMapAddr(gpa), createIrqchip(), createPit2(),
 * dropMissedTicks(): Promise, before which it is not closed; setUserMemory(mapping): the regions
 * that are RAM, in slots 0 and on; setMemorySlot(slot, gpa, sizeBytes): a range of that mapping;
 * removeMemorySlot(slot); setFileSlot(slot, gpa, FileMapping); ioeventfd(eventFd, address,
 * sizeBytes, match | -1), irqfd(eventFd, gsi), pulseIrq(gsi), createVcpu(id): descriptor, close():
 * Promise, fulfilled when the kernel has let go of the VM.
 */
class Vm : public Napi::ObjectWrap<Vm> {
public:
  static Napi::Function Define(Napi::Env env);
  explicit Vm(const Napi::CallbackInfo& info);

private:
  void SetTssAddr(const Napi::CallbackInfo& info);
  void SetIdentityMapAddr(const Napi::CallbackInfo& info);
  void CreateIrqchip(const Napi::CallbackInfo& info);
  void CreatePit2(const Napi::CallbackInfo& info);
  Napi::Value DropMissedTicks(const Napi::CallbackInfo& info);
  void SetUserMemory(const Napi::CallbackInfo& info);
  void SetMemorySlot(const Napi::CallbackInfo& info);
  void RemoveMemorySlot(const Napi::CallbackInfo& info);
  void SetFileSlot(const Napi::CallbackInfo& info);
  void Ioeventfd(const Napi::CallbackInfo& info);
  void Irqfd(const Napi::CallbackInfo& info);
  void PulseIrq(const Napi::CallbackInfo& info);
  Napi::Value CreateVcpu(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

  FileDescriptor fd_;
  // The memory slots point into these.
  std::shared_ptr<GuestMapping> memory_;
  std::vector<std::shared_ptr<MappedFile>> files_;
};

} // namespace estalo

#endif
