//! People and which ServiceAccounts act for them. The only place where a pseudonym meets a name.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, now};
use crate::identity::Subject;

/// A person known to this broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Their name on the ledger.
    pub pseudonym: String,
    /// Who they are.
    pub subject: Subject,
    /// The hub's raw username, or a name to show.
    pub username: Option<String>,
}

/// A person's two ServiceAccounts and their home in one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Whose.
    pub pseudonym: String,
    /// Namespace of both accounts.
    pub namespace: String,
    /// The notebook's account: acts for the person.
    pub notebook: Account,
    /// The executor's account: pods of the person's workflows run as it.
    pub executor: Account,
    /// The person's home.
    pub home: Home,
}

/// A ServiceAccount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// Where the home is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The claim.
    pub claim: String,
    /// Directory in it; empty for its root.
    pub sub_path: String,
    /// Where it is in the pod.
    pub mount_path: String,
}

/// What a binding did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// It holds now, and replaced these notebook uids of the same person and namespace.
    Done {
        /// Uids that no longer act for anybody.
        replaced: Vec<String>,
    },
    /// One of the uids acts for somebody else.
    TakenByAnother,
}

impl Store {
    /// Remembers a person. A name that is told replaces an older one; none leaves it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remember(&self, person: &Person) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        upsert(&mut connection, person).await
    }

    /// The person that a notebook's ServiceAccount acts for.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn person_of_notebook(&self, uid: &str) -> Result<Option<Person>, StoreError> {
        let row = sqlx::query(
            "SELECT s.pseudonym, s.issuer, s.sub, s.username FROM bindings b JOIN subjects s USING (pseudonym)
             WHERE b.notebook_uid = ?",
        )
        .bind(uid)
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(person).transpose()
    }

    /// The person behind a pseudonym.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn person(&self, pseudonym: &str) -> Result<Option<Person>, StoreError> {
        let row = sqlx::query("SELECT pseudonym, issuer, sub, username FROM subjects WHERE pseudonym = ?")
            .bind(pseudonym)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(person).transpose()
    }

    /// All bindings.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn bindings(&self) -> Result<Vec<Binding>, StoreError> {
        let rows = sqlx::query("SELECT * FROM bindings ORDER BY notebook_uid")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(binding).collect()
    }

    /// Binds a person to two ServiceAccounts, in place of those that the person had in the namespace. All or nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn bind(&self, person: &Person, binding: &Binding) -> Result<Bound, StoreError> {
        let mut transaction = self.write().await?;
        let (notebook, executor) = (&binding.notebook.uid, &binding.executor.uid);
        let foreign = sqlx::query(
            "SELECT 1 FROM bindings WHERE (notebook_uid IN (?1, ?2) OR executor_uid IN (?1, ?2))
             AND NOT (pseudonym = ?3 AND namespace = ?4)",
        )
        .bind(notebook)
        .bind(executor)
        .bind(&person.pseudonym)
        .bind(&binding.namespace)
        .fetch_optional(&mut *transaction)
        .await?;
        if foreign.is_some() {
            return Ok(Bound::TakenByAnother);
        }
        upsert(&mut transaction, person).await?;
        let before: Vec<(String,)> = sqlx::query_as(
            "DELETE FROM bindings WHERE pseudonym = ? AND namespace = ? RETURNING notebook_uid",
        )
        .bind(&person.pseudonym)
        .bind(&binding.namespace)
        .fetch_all(&mut *transaction)
        .await?;
        sqlx::query(
            "INSERT INTO bindings (notebook_uid, notebook_name, executor_uid, executor_name, namespace, pseudonym,
                                   home_claim, home_sub_path, home_mount, bound_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(notebook)
        .bind(&binding.notebook.name)
        .bind(executor)
        .bind(&binding.executor.name)
        .bind(&binding.namespace)
        .bind(&person.pseudonym)
        .bind(&binding.home.claim)
        .bind(&binding.home.sub_path)
        .bind(&binding.home.mount_path)
        .bind(now())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        let replaced = before
            .into_iter()
            .map(|(uid,)| uid)
            .filter(|uid| uid != notebook)
            .collect();
        Ok(Bound::Done { replaced })
    }
}

async fn upsert(connection: &mut sqlx::SqliteConnection, person: &Person) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO subjects (pseudonym, issuer, sub, username, created_at) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (pseudonym) DO UPDATE SET username = coalesce(excluded.username, username)",
    )
    .bind(&person.pseudonym)
    .bind(&person.subject.issuer)
    .bind(&person.subject.sub)
    .bind(&person.username)
    .bind(now())
    .execute(connection)
    .await?;
    Ok(())
}

fn person(row: &SqliteRow) -> Result<Person, StoreError> {
    Ok(Person {
        pseudonym: row.try_get("pseudonym")?,
        subject: Subject {
            issuer: row.try_get("issuer")?,
            sub: row.try_get("sub")?,
        },
        username: row.try_get("username")?,
    })
}

fn binding(row: &SqliteRow) -> Result<Binding, StoreError> {
    Ok(Binding {
        pseudonym: row.try_get("pseudonym")?,
        namespace: row.try_get("namespace")?,
        notebook: Account {
            name: row.try_get("notebook_name")?,
            uid: row.try_get("notebook_uid")?,
        },
        executor: Account {
            name: row.try_get("executor_name")?,
            uid: row.try_get("executor_uid")?,
        },
        home: Home {
            claim: row.try_get("home_claim")?,
            sub_path: row.try_get("home_sub_path")?,
            mount_path: row.try_get("home_mount")?,
        },
    })
}
