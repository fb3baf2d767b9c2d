/* First process of the enclave: mounts, heartbeat, move into /rootfs, run /cmd with /env.
 *
 * Free-standing: no libc, only x86-64 Linux system calls, so that nothing but this page is measured beside
 * the kernel and the ramdisks, and a build takes a blink. Layout (nitro-cli's): ramdisk 1 = /init, /dev,
 * /modules; ramdisk 2 = /rootfs, /cmd, /env, one item a line. Numbers are the kernel's own ABI.
 */
enum { READ = 0, WRITE = 1, OPEN = 2, CLOSE = 3, DUP2 = 33, SOCKET = 41, CONNECT = 42, SETSOCKOPT = 54,
       FORK = 57, EXECVE = 59, EXIT = 60, WAIT4 = 61, CHDIR = 80, MKDIR = 83, SETSID = 112, CHROOT = 161,
       SYNC = 162, MOUNT = 165, REBOOT = 169, FINIT_MODULE = 313 };
enum { EINTR = 4, EBUSY = 16, RDWR = 2, CLOEXEC = 02000000 };
enum { NOSUID = 2, NODEV = 4, NOEXEC = 8, BIND = 4096, MOVE = 8192 };
enum { AF_VSOCK = 40, STREAM = 1, SOL_SOCKET = 1, RECEIVE_TIMEOUT = 20, SEND_TIMEOUT = 21 };
enum { HEARTBEAT = 0xB7, PARENT_CID = 3, HEARTBEAT_PORT = 9000, HEARTBEAT_LIMIT_S = 5 };
enum { MAX_ITEMS = 64, MAX_LIST_BYTES = 16384, MAX_PATH_BYTES = 256 };

struct vsock_address {
    unsigned short family, reserved;
    unsigned int port, cid;
    unsigned char zero[4];
};

static long call(long number, long a, long b, long c, long d, long e) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result; /* below 0: minus errno */
}

static void print(const char *text) {
    long size = 0;
    while (text[size]) size++;
    call(WRITE, 2, (long)text, size, 0, 0);
}

static void say(const char *what, const char *name, long error) {
    char digits[12];
    int at = 11;
    unsigned long rest = error < 0 ? -error : error;
    digits[at] = 0;
    do digits[--at] = '0' + rest % 10;
    while ((rest /= 10) && at);
    print("init: "), print(what), print(" "), print(name), print(": "), print(digits + at), print("\n");
}

static void restart(void) {
    call(SYNC, 0, 0, 0, 0, 0);
    call(REBOOT, 0xfee1dead, 0x28121969, 0x01234567 /* restart */, 0, 0);
    for (;;) call(EXIT, 1, 0, 0, 0, 0);
}

static void need(long result, const char *what, const char *name) {
    if (result >= 0) return;
    say(what, name, result);
    restart();
}

static void mount_or_say(const char *kind, const char *target, long flags) {
    call(MKDIR, (long)target, 0755, 0, 0, 0);
    long result = call(MOUNT, (long)kind, (long)target, (long)kind, flags, 0);
    if (result < 0 && result != -EBUSY) say("mount", target, result);
}

/* Fill `items` with the lines of a file, 0 at the end; the text lives in `text`. */
static void read_lines(const char *path, char *text, char **items) {
    long size = 0, got, count = 0, file = call(OPEN, (long)path, CLOEXEC, 0, 0, 0);
    need(file, "open", path);
    while ((got = call(READ, file, (long)(text + size), MAX_LIST_BYTES - 1 - size, 0, 0)) > 0) size += got;
    need(got, "read", path);
    call(CLOSE, file, 0, 0, 0, 0);
    text[size] = 0;
    for (char *line = text; *line;) {
        char *end = line;
        while (*end && *end != '\n') end++;
        char closing = *end;
        *end = 0;
        need(count < MAX_ITEMS - 1 ? 0 : -MAX_ITEMS, "too many lines in", path);
        if (end > line) items[count++] = line;
        line = closing ? end + 1 : end;
    }
    items[count] = 0;
}

/* Load the modules that /modules/order names by path. One that is built in is refused: said, not fatal. */
static void load_modules(void) {
    static char text[MAX_LIST_BYTES];
    char *paths[MAX_ITEMS];
    read_lines("/modules/order", text, paths);
    for (char **path = paths; *path; path++) {
        long file = call(OPEN, (long)*path, CLOEXEC, 0, 0, 0);
        long result = file < 0 ? file : call(FINIT_MODULE, file, (long)"", 0, 0, 0);
        if (result < 0) say("module", *path, result);
        if (file >= 0) call(CLOSE, file, 0, 0, 0, 0);
    }
}

/* Tell the parent instance that the enclave booted and wait a little for the echo. Best effort. */
static void heartbeat(void) {
    unsigned char beat = HEARTBEAT;
    struct vsock_address parent = {AF_VSOCK, 0, HEARTBEAT_PORT, PARENT_CID, {0, 0, 0, 0}};
    long limit[2] = {HEARTBEAT_LIMIT_S, 0};
    long channel = call(SOCKET, AF_VSOCK, STREAM | CLOEXEC, 0, 0, 0);
    if (channel < 0) return say("heartbeat", "socket", channel);
    call(SETSOCKOPT, channel, SOL_SOCKET, RECEIVE_TIMEOUT, (long)limit, sizeof limit);
    call(SETSOCKOPT, channel, SOL_SOCKET, SEND_TIMEOUT, (long)limit, sizeof limit);
    long result = call(CONNECT, channel, (long)&parent, sizeof parent, 0, 0);
    if (result == 0) result = call(WRITE, channel, (long)&beat, 1, 0, 0);
    if (result == 1) result = call(READ, channel, (long)&beat, 1, 0, 0);
    if (result != 1 || beat != HEARTBEAT) say("heartbeat", "no answer", result);
    call(CLOSE, channel, 0, 0, 0, 0);
}

static void enter_root(void) {
    need(call(MOUNT, (long)"/rootfs", (long)"/rootfs", 0, BIND, 0), "bind", "/rootfs");
    need(call(CHDIR, (long)"/rootfs", 0, 0, 0, 0), "enter", "/rootfs");
    need(call(MOUNT, (long)".", (long)"/", 0, MOVE, 0), "move", "/rootfs");
    need(call(CHROOT, (long)".", 0, 0, 0, 0), "chroot", "/rootfs");
    need(call(CHDIR, (long)"/", 0, 0, 0, 0), "enter", "/");
    mount_or_say("devtmpfs", "/dev", NOSUID | NOEXEC);
    mount_or_say("proc", "/proc", NODEV | NOSUID | NOEXEC);
    mount_or_say("sysfs", "/sys", NODEV | NOSUID | NOEXEC);
    mount_or_say("tmpfs", "/tmp", NODEV | NOSUID);
    mount_or_say("tmpfs", "/run", NODEV | NOSUID);
}

static void run(char **command, char **environment) {
    long child = call(FORK, 0, 0, 0, 0, 0), ended = 0;
    need(child, "fork", command[0]);
    if (child == 0) {
        call(SETSID, 0, 0, 0, 0, 0);
        long result = call(EXECVE, (long)command[0], (long)command, (long)environment, 0, 0);
        say("exec", command[0], result);
        call(EXIT, 127, 0, 0, 0, 0);
    }
    int status = 0;
    while (ended != child && (ended >= 0 || ended == -EINTR)) /* reaps orphans too: nobody else does */
        ended = call(WAIT4, -1, (long)&status, 0, 0, 0);
    say("ended, wait status", command[0], status);
}

__attribute__((noreturn, force_align_arg_pointer)) void _start(void) {
    static char command_text[MAX_LIST_BYTES], environment_text[MAX_LIST_BYTES];
    char *command[MAX_ITEMS], *environment[MAX_ITEMS];
    mount_or_say("devtmpfs", "/dev", NOSUID | NOEXEC);
    long console = call(OPEN, (long)"/dev/console", RDWR, 0, 0, 0);
    if (console >= 0)
        for (long descriptor = 0; descriptor < 3; descriptor++) call(DUP2, console, descriptor, 0, 0, 0);
    load_modules();
    heartbeat();
    read_lines("/cmd", command_text, command);
    read_lines("/env", environment_text, environment);
    need(command[0] ? 0 : -1, "empty", "/cmd");
    enter_root();
    run(command, environment);
    restart();
    __builtin_unreachable();
}
