"""The system calls that a container may make, as a table by subject: the same ones that Docker allows by default.

Not among them is what reaches beyond the container's namespaces or what the kernel does not confine: mounting, loading
modules, setting clocks, keys, swapping, `userfaultfd`, `io_uring`. Some comes with a capability (`BY_CAPABILITY`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_FILES: Final = _words(
    "access close close_range creat dup dup2 dup3 faccessat faccessat2 fallocate fcntl fcntl64 flock ioctl lseek"
    " _llseek mkdir mkdirat mknod mknodat open openat openat2 readlink readlinkat rename renameat renameat2 rmdir"
    " link linkat symlink symlinkat unlink unlinkat umask chdir fchdir getcwd getdents getdents64 name_to_handle_at"
    " truncate truncate64 ftruncate ftruncate64 fadvise64 fadvise64_64 readahead copy_file_range"
    " sync syncfs fsync fdatasync sync_file_range cachestat"
)
_TRANSFER: Final = _words(
    "read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 sendfile sendfile64"
    " splice tee vmsplice pipe pipe2"
)
_ATTRIBUTES: Final = _words(
    "stat stat64 fstat fstat64 lstat lstat64 fstatat64 newfstatat statx statfs statfs64 fstatfs fstatfs64"
    " chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown lchown32"
    " utime utimes futimesat utimensat utimensat_time64"
    " getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr"
    " setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr"
)
_WATCHING: Final = _words(
    "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old"
    " eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch"
    " poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 signalfd signalfd4"
    " io_setup io_submit io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64"
)
_MEMORY: Final = _words(
    "brk mmap mmap2 munmap mremap mprotect msync madvise mincore mlock mlock2 mlockall munlock munlockall"
    " membarrier memfd_create memfd_secret remap_file_pages pkey_alloc pkey_free pkey_mprotect map_shadow_stack"
    " process_mrelease"
)
_PROCESSES: Final = _words(
    "execve execveat exit exit_group fork vfork wait4 waitid waitpid kill tkill tgkill pause prctl"
    " pidfd_open pidfd_send_signal getpid getppid gettid getpgid getpgrp setpgid getsid setsid getcpu"
    " get_robust_list set_robust_list get_thread_area set_thread_area set_tid_address restart_syscall rseq"
    " futex futex_time64 futex_waitv futex_wait futex_wake futex_requeue capget capset seccomp uname sysinfo"
    " landlock_create_ruleset landlock_add_rule landlock_restrict_self"
)
_IDENTITY: Final = _words(
    "getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getgroups getgroups32"
    " getresuid getresuid32 getresgid getresgid32 setuid setuid32 setgid setgid32 setgroups setgroups32"
    " setreuid setreuid32 setregid setregid32 setresuid setresuid32 setresgid setresgid32"
    " setfsuid setfsuid32 setfsgid setfsgid32"
)
_SIGNALS: Final = _words(
    "alarm sigaltstack sigprocmask sigreturn rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo"
    " rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo"
)
_SCHEDULING: Final = _words(
    "getpriority setpriority getrlimit setrlimit ugetrlimit prlimit64 getrusage ioprio_get ioprio_set"
    " sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min"
    " sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr"
    " sched_setparam sched_setscheduler sched_yield"
)
_TIME: Final = _words(
    "time times gettimeofday nanosleep getitimer setitimer adjtimex clock_adjtime clock_adjtime64"
    " clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64"
    " timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64"
    " timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64"
)
_SOCKETS: Final = _words(
    "accept accept4 bind connect listen shutdown getpeername getsockname getsockopt setsockopt socketcall"
    " socketpair recv recvfrom recvmsg recvmmsg recvmmsg_time64 send sendto sendmsg sendmmsg"
)
_MESSAGES: Final = _words(
    "ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64"
    " mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64"
    " shmat shmctl shmdt shmget"
)
_TRACING: Final = _words("getrandom process_vm_readv process_vm_writev ptrace")

ALWAYS: Final = tuple(
    sorted(
        {
            *(*_FILES, *_TRANSFER, *_ATTRIBUTES, *_WATCHING, *_MEMORY, *_PROCESSES, *_IDENTITY, *_SIGNALS),
            *(*_SCHEDULING, *_TIME, *_SOCKETS, *_MESSAGES, *_TRACING),
        }
    )
)
"""Allowed in every container, whatever their arguments."""

BY_CAPABILITY: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "CAP_DAC_READ_SEARCH": _words("open_by_handle_at"),
        "CAP_SYS_ADMIN": _words(
            "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr"
            " move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog"
            " umount umount2 unshare"
        ),
        "CAP_SYS_BOOT": _words("reboot"),
        "CAP_SYS_CHROOT": _words("chroot"),
        "CAP_SYS_MODULE": _words("delete_module finit_module init_module"),
        "CAP_SYS_PACCT": _words("acct"),
        "CAP_SYS_PTRACE": _words("kcmp pidfd_getfd process_madvise"),
        "CAP_SYS_RAWIO": _words("ioperm iopl"),
        "CAP_SYS_TIME": _words("clock_settime clock_settime64 settimeofday stime"),
        "CAP_SYS_TTY_CONFIG": _words("vhangup"),
        "CAP_SYS_NICE": _words("get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
        "CAP_SYSLOG": _words("syslog"),
        "CAP_BPF": _words("bpf"),
        "CAP_PERFMON": _words("perf_event_open"),
    }
)
"""Allowed where the container holds the capability that the kernel asks for anyway."""

BY_ARCHITECTURE: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "x86_64": _words("arch_prctl modify_ldt"),
        "arm64": _words("arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2"),
        "ppc64le": _words("swapcontext sync_file_range2"),
        "s390x": _words("s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
        "riscv64": _words("riscv_flush_icache"),
    }
)
