/*
 * A child that lets go of nothing in the database: one process and one session for each statement that it is given. It
 * executes that again and again, and connects anew at once when it is thrown out. A statement that leaves a transaction
 * open is executed once a session, which then sits in that transaction until it is ended.
 *
 *   survivor CONNINFO SQL...
 *
 * libpq takes the sessions' label from PGAPPNAME, as it does in any program.
 */
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { pause_ms = 10, lifetime_s = 300 };

/* The only news that an idle session brings is its end. */
static void wait_for_end(PGconn *session) {
    struct pollfd set = {.fd = PQsocket(session), .events = POLLIN};
    while (PQconsumeInput(session) && PQstatus(session) == CONNECTION_OK) poll(&set, 1, -1);
}

static void hold_on(const char *conninfo, const char *sql) {
    for (;;) {
        PGconn *session = PQconnectdb(conninfo);
        while (PQstatus(session) == CONNECTION_OK) {
            PGresult *result = PQexec(session, sql);
            ExecStatusType status = PQresultStatus(result);
            PQclear(result);
            if (PQstatus(session) != CONNECTION_OK) break;
            if (status == PGRES_FATAL_ERROR) dprintf(2, "survivor: %s", PQerrorMessage(session));
            if (PQtransactionStatus(session) == PQTRANS_INTRANS) wait_for_end(session);
            usleep(pause_ms * 1000);
        }
        PQfinish(session);
        usleep(pause_ms * 1000);
    }
}

int main(int count, char **words) {
    if (count < 3) {
        dprintf(2, "usage: survivor CONNINFO SQL...\n");
        return 98;
    }
    alarm(lifetime_s);
    for (int index = 2; index < count; index++) {
        pid_t pid = fork();
        if (pid < 0) return 97;
        if (pid == 0) {
            alarm(lifetime_s);
            hold_on(words[1], words[index]);
        }
    }
    while (wait(NULL) > 0) {}
    return 0;
}
