// mkdir -p build && cc -O2 -pthread -I. -o build/10_account examples/10_account.c
//
// A hundred threads each pay one into an account, which takes a while; the account's own lock, held
// to the end of the scope by MTASK_GUARD, sees to it that no payment is lost.
//
// Output:
//   the balance is 100
#define MTASK_IMPLEMENTATION
#include "mtask.h"
#include "common.h"

enum { THREADS = 100 };

typedef struct Account {
    mtask_mutex lock;
    int balance;
} Account;

static mtask_status account_deposit(Account *account, int money) {
    MTASK_GUARD(&account->lock);
    int new_balance = account->balance + money;
    mtask_status status = mtask_sleep(seconds(0.01));
    if (status != MTASK_OK)
        return status; /* the lock is let go of here, too */
    account->balance = new_balance;
    return MTASK_OK;
}

static void *add_money(void *arg) {
    MUST(account_deposit((Account *)arg, 1));
    return NULL;
}

int main(void) {
    Account account = {0};
    mtask_thread threads[THREADS] = {0};
    for (int i = 0; i < THREADS; i++)
        MUST(mtask_thread_start(&threads[i], add_money, &account));
    for (int i = 0; i < THREADS; i++)
        MUST(mtask_thread_join(&threads[i], NULL, MTASK_FOREVER));
    printf("the balance is %d\n", account.balance);
    return 0;
}
